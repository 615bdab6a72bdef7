//! How Entra refuses a token request: the error, the AADSTS number, the text, the HTTP status.

use hyper::StatusCode;
use serde::Serialize;

use super::random;
use crate::clock::UnixMillis;

/// Why a token request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenRefusal {
    /// HTTP status; a client should not read much into it.
    pub status: StatusCode,
    /// The `error` member (RFC 6749 section 5.2).
    pub error: &'static str,
    /// The AADSTS number.
    pub code: u32,
    /// What stands behind the number.
    pub text: String,
}

impl TokenRefusal {
    pub(super) fn new(error: &'static str, code: u32, text: impl Into<String>) -> Self {
        // Entra answers a failed client authentication with 401, everything else with 400.
        let status = match error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, error, code, text: text.into() }
    }

    pub fn not_a_post(method: &str) -> Self {
        let text = format!(
            "The endpoint only accepts POST requests. Received a {} request.",
            shown(method)
        );
        Self::new("invalid_request", 900_561, text)
    }

    pub fn malformed(what: &str) -> Self {
        let text = format!("Invalid request. Request is malformed or invalid: {what}.");
        Self::new("invalid_request", 9_002_313, text)
    }

    pub fn no_such_path() -> Self {
        let status = StatusCode::NOT_FOUND;
        Self { status, ..Self::malformed("the path is not /{tenant}/oauth2/v2.0/token") }
    }

    pub fn body_too_large() -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::malformed("the body is too large") }
    }

    pub fn tenant_not_found(tenant: &str) -> Self {
        let text = format!(
            "Tenant '{}' not found. Check to make sure you have the correct tenant ID and are \
             signing into the correct cloud.",
            shown(tenant)
        );
        Self::new("invalid_request", 90_002, text)
    }

    pub fn tenant_malformed(tenant: &str) -> Self {
        let text = format!(
            "Specified tenant identifier '{}' is neither a valid DNS name, nor a valid external \
             domain.",
            shown(tenant)
        );
        Self::new("invalid_request", 900_023, text)
    }

    pub fn tenant_is_a_placeholder(tenant: &str) -> Self {
        let text = format!(
            "The grant type is not supported over the /{} endpoint. Please use the tenant-specific \
             endpoint.",
            shown(tenant)
        );
        Self::new("invalid_request", 9_001_023, text)
    }

    pub fn parameter_missing(name: &str) -> Self {
        let text = format!("The request body must contain the following parameter: '{name}'.");
        Self::new("invalid_request", 900_144, text)
    }

    pub fn resource_parameter() -> Self {
        Self::new("invalid_request", 901_002, "The 'resource' request parameter is not supported.")
    }

    pub fn grant_type(grant_type: &str) -> Self {
        let text = format!("The app requested an unsupported grant type '{}'.", shown(grant_type));
        Self::new("unsupported_grant_type", 70_003, text)
    }

    pub fn unknown_application(client_id: &str, tenant: &str) -> Self {
        let text = format!(
            "Application with identifier '{}' was not found in the directory '{}'. This can happen \
             if the application has not been installed by the administrator of the tenant.",
            shown(client_id),
            shown(tenant)
        );
        Self::new("unauthorized_client", 700_016, text)
    }

    pub fn no_service_principal(client_id: &str, tenant: &str) -> Self {
        let text = format!(
            "The client application {} is missing service principal in the tenant {}.",
            shown(client_id),
            shown(tenant)
        );
        Self::new("invalid_client", 7_000_229, text)
    }

    pub fn no_credential() -> Self {
        let text = "The request body must contain the following parameter: 'client_assertion' or \
                    'client_secret'.";
        Self::new("invalid_client", 7_000_218, text)
    }

    pub fn public_client() -> Self {
        let text = "Client is public so neither 'client_assertion' nor 'client_secret' should be \
                    presented.";
        Self::new("invalid_client", 700_025, text)
    }

    pub fn wrong_secret(client_id: &str) -> Self {
        let text = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the \
             client secret value, not the client secret ID, for a secret added to app '{}'.",
            shown(client_id)
        );
        Self::new("invalid_client", 7_000_215, text)
    }

    pub fn expired_secret(client_id: &str) -> Self {
        let app = shown(client_id);
        let text = format!("The provided client secret keys for app '{app}' are expired.");
        Self::new("invalid_client", 7_000_222, text)
    }

    pub fn unknown_certificate() -> Self {
        let text = "The certificate used to sign the client assertion is not registered on \
                    application.";
        Self::new("invalid_client", 700_027, text)
    }

    pub fn scope_malformed(scope: &str) -> Self {
        let text = format!(
            "The provided value for the input parameter 'scope' is not valid. The scope '{}' is not \
             valid.",
            shown(scope)
        );
        Self::new("invalid_scope", 70_011, text)
    }

    pub fn scope_without_default(scope: &str) -> Self {
        let text = format!(
            "The provided value for scope {} is not valid. Client credential flows must have a scope \
             value with /.default suffixed to the resource identifier (application ID URI).",
            shown(scope)
        );
        Self::new("invalid_scope", 1_002_012, text)
    }

    pub fn several_resources(scope: &str) -> Self {
        let text = format!(
            "The provided value for the input parameter scope '{}' is not valid because it contains \
             more than one resource.",
            shown(scope)
        );
        Self::new("invalid_scope", 700_022, text)
    }

    pub fn unknown_resource(resource: &str, tenant: &str) -> Self {
        let text = format!(
            "The resource principal named {} was not found in the tenant named {}.",
            shown(resource),
            shown(tenant)
        );
        Self::new("invalid_resource", 500_011, text)
    }

    /// The refusals of the fault `token-refused`, in the order of its words.
    pub fn of_policy(choice: usize, client_id: &str) -> Self {
        let app = shown(client_id);
        match choice {
            0 => Self::new(
                "invalid_grant",
                53_003,
                "Access has been blocked by Conditional Access policies. The access policy does \
                 not allow token issuance.",
            ),
            1 => Self::expired_secret(client_id),
            2 => {
                Self::new("invalid_grant", 530_035, "Access has been blocked by security defaults.")
            }
            3 => Self::new(
                "unauthorized_client",
                7_000_112,
                format!("Application '{app}' is disabled."),
            ),
            4 => Self::new(
                "invalid_client",
                7_000_229,
                format!("The client application {app} is missing service principal in the tenant."),
            ),
            _ => Self::new(
                "invalid_request",
                900_432,
                "Confidential Client is not supported in Cross Cloud request.",
            ),
        }
    }

    /// The tenant asks for too many tokens.
    pub fn throttled() -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let text = "The request was denied as too many have been received. Try again later.";
        Self { status, ..Self::new("temporarily_unavailable", 90_055, text) }
    }

    /// Entra itself is in trouble.
    pub fn unavailable(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let text = "A transient error has occurred. Please try again.";
        Self { status, ..Self::new("temporarily_unavailable", 90_033, text) }
    }

    /// The `error_description` without the ids.
    pub fn description(&self) -> String {
        format!("AADSTS{}: {}", self.code, self.text)
    }

    /// The body of the answer. `correlation_id` is what the client sent with its request.
    pub fn body(&self, now: UnixMillis, correlation_id: Option<&str>) -> ErrorBody {
        let timestamp = now.timestamp().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let trace_id = random::guid();
        let correlation_id = correlation_id.map_or_else(random::guid, str::to_owned);
        ErrorBody {
            error: self.error,
            error_description: format!(
                "{} Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}",
                self.description()
            ),
            error_codes: [self.code],
            timestamp,
            trace_id,
            correlation_id,
            error_uri: format!("https://login.microsoftonline.com/error?code={}", self.code),
        }
    }
}

/// The JSON of a refused token request.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody {
    error: &'static str,
    error_description: String,
    error_codes: [u32; 1],
    timestamp: String,
    trace_id: String,
    correlation_id: String,
    error_uri: String,
}

/// What a client sent, as far as it fits into an error text.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}
