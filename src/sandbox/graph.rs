//! Microsoft Graph, as far as a set-up needs it: paths, methods, bodies and errors of v1.0, and
//! strict about each of them. What Graph would ignore, such as an unknown member, is refused.

mod calls;

use hyper::{HeaderMap, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{access_token::READ_ALL, faults::Stage, form::decode, random, tenant::Tenant};

/// What Graph answers: a status and JSON, or nothing for 204.
pub(super) type Answer = (StatusCode, Option<Value>);

/// Why Graph says no.
#[derive(Debug)]
pub(super) struct No {
    pub status: StatusCode,
    code: &'static str,
    message: String,
}

pub(super) fn no(status: StatusCode, code: &'static str, message: impl Into<String>) -> No {
    No { status, code, message: message.into() }
}

fn bad(message: impl Into<String>) -> No {
    no(StatusCode::BAD_REQUEST, "Request_BadRequest", message)
}

fn not_found(id: &str) -> No {
    let text = format!(
        "Resource '{id}' does not exist or one of its queried reference-property objects are not \
         present."
    );
    no(StatusCode::NOT_FOUND, "Request_ResourceNotFound", text)
}

/// A request, body read.
pub(super) struct Request<'r> {
    pub method: &'r Method,
    /// Behind `/v1.0`.
    pub path: &'r str,
    pub query: Option<&'r str>,
    pub headers: &'r HeaderMap,
    pub body: &'r [u8],
}

impl No {
    pub fn body(&self, tenant: &Tenant) -> Value {
        let date = tenant.now().timestamp().strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let id = random::guid();
        json!({ "error": {
            "code": self.code,
            "message": self.message,
            "innerError": { "date": date, "request-id": id, "client-request-id": id },
        } })
    }
}

/// Answers one request.
pub(super) fn answer(request: &Request<'_>, tenant: &Tenant) -> Result<Answer, No> {
    let scopes = bearer(request.headers)
        .and_then(|token| tenant.graph_permissions(token))
        .ok_or_else(|| {
            let text = "Access token is empty, expired, or not for Microsoft Graph.";
            no(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", text)
        })?;
    if let Some(strike) = tenant.strike(Stage::Graph, &[]) {
        return Err(match strike.choice() {
            0 => no(
                StatusCode::FORBIDDEN,
                "Authorization_RequestDenied",
                "Insufficient privileges to complete the operation.",
            ),
            1 => no(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "Too many requests."),
            _ => no(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "Try again later."),
        });
    }
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let needed: &[&str] = match parts.as_slice() {
        [_, _, "appRoleAssignments", ..] if request.method != Method::GET => {
            &["AppRoleAssignment.ReadWrite.All"]
        }
        ["applications", ..] if request.method == Method::GET => &[WRITE_ALL, READ_ALL],
        [one] if request.method == Method::GET && client_id_in(one).is_some() => {
            &[WRITE_ALL, READ_ALL]
        }
        _ => &[WRITE_ALL],
    };
    if !scopes.iter().any(|granted| needed.contains(&granted.as_str())) {
        let first = needed.first().copied().unwrap_or_default();
        let text = format!("Insufficient privileges to complete the operation: {first}.");
        return Err(no(StatusCode::FORBIDDEN, "Authorization_RequestDenied", text));
    }
    calls::route(request, &parts, tenant)
}

/// `applications(appId='...')` names an application by its client id.
fn client_id_in(part: &str) -> Option<&str> {
    part.strip_prefix("applications(appId='")?.strip_suffix("')")
}

const WRITE_ALL: &str = "Application.ReadWrite.All";

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

impl Request<'_> {
    /// The body, which has to be an object with these members: needed ones, allowed ones.
    fn object(&self, needed: &[&str], allowed: &[&str]) -> Result<Map<String, Value>, No> {
        let content_type = self.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.split(';').next().unwrap_or_default().trim() != "application/json" {
            return Err(bad("Content-Type has to be application/json."));
        }
        let Ok(Value::Object(object)) = serde_json::from_slice(self.body) else {
            return Err(bad("Unable to read JSON request payload."));
        };
        members("the body", object, needed, allowed)
    }

    /// The value of `$filter=PROPERTY eq 'VALUE'`, and nothing but `$select` beside it.
    fn filter(&self) -> Result<(String, String), No> {
        let mut filter = None;
        for (name, value) in self.options()? {
            match name.as_str() {
                "$filter" => filter = Some(value),
                "$select" => {}
                _ => return Err(bad(format!("The query option {name} is not known."))),
            }
        }
        filter
            .as_deref()
            .and_then(|filter| filter.split_once(" eq '"))
            .and_then(|(property, rest)| Some((property, rest.strip_suffix('\'')?)))
            .filter(|(_, value)| !value.replace("''", "").contains('\''))
            .map(|(property, value)| (property.to_owned(), value.replace("''", "'")))
            .ok_or_else(|| bad("Invalid filter clause."))
    }

    /// No option but `$select`.
    fn only_select(&self) -> Result<(), No> {
        match self.options()?.iter().find(|(name, _)| name != "$select") {
            None => Ok(()),
            Some((name, _)) => Err(bad(format!("The query option {name} is not known."))),
        }
    }

    /// What `$select` names, where nothing else is asked.
    fn selected(&self) -> Result<Option<Vec<String>>, No> {
        self.only_select()?;
        let names = |(_, value): (String, String)| value.split(',').map(str::to_owned).collect();
        Ok(self.options()?.into_iter().map(names).next())
    }

    fn options(&self) -> Result<Vec<(String, String)>, No> {
        let malformed = || bad("The query is malformed.");
        let pairs = self.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').ok_or_else(malformed)?;
                let text = |text: &str| decode(text.as_bytes(), true).ok_or_else(malformed);
                Ok((text(name)?, text(value)?))
            })
            .collect()
    }
}

/// `object`, if it has what is needed and nothing that is not known.
fn members(
    what: &str,
    object: Map<String, Value>,
    needed: &[&str],
    allowed: &[&str],
) -> Result<Map<String, Value>, No> {
    if let Some(missing) = needed.iter().find(|name| !object.contains_key(**name)) {
        return Err(bad(format!("A value is required for property '{missing}' of {what}.")));
    }
    let known = |name: &str| needed.contains(&name) || allowed.contains(&name);
    match object.keys().find(|name| !known(name)) {
        None => Ok(object),
        Some(name) => Err(bad(format!("Invalid property '{name}' in {what}."))),
    }
}
