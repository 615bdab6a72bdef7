//! The way from an answer of the token endpoint, or of a managed identity's host, to its meaning,
//! without the network: for the fuzz targets, and compiled for nothing else.

use oauth2::{HttpRequest, HttpResponse};

use super::*;

/// An answer as HTTP brings it.
#[derive(Debug)]
pub struct Received {
    /// The code of its status line.
    pub status: u16,
    /// The value of Content-Type.
    pub content_type: Option<&'static str>,
    /// The value of Retry-After.
    pub retry_after: Option<&'static str>,
    /// All of its content.
    pub body: Vec<u8>,
}

/// A token that would be used.
#[derive(Debug)]
pub struct Usable {
    /// As XOAUTH2 would carry it.
    pub token: String,
    /// From now on.
    pub lifetime: Duration,
}

/// What is made of an answer of the token endpoint to a request that carried `secret`.
///
/// # Errors
/// [`TokenError`].
pub fn read_answer(received: Received, secret: &str) -> Result<Usable, TokenError> {
    let response = received.into_response()?;
    let answer = Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.body().clone().into(),
    };
    let url = TokenUrl::new("https://login.example/".into()).map_err(|error| fault(&error))?;
    let client: Entra = Client::new(ClientId::new("client".into()));
    let outcome = client
        .set_token_uri(url)
        .set_client_secret(ClientSecret::new(secret.into()))
        .set_auth_type(AuthType::RequestBody)
        .exchange_client_credentials()
        .request(&|_: HttpRequest| Ok::<HttpResponse, TokenError>(response.clone()));
    let fetched = match outcome {
        Ok(token) => usable(
            token.access_token().secret(),
            token.expires_in(),
            token.refresh_in(),
            answer.status,
        )?,
        Err(error) => return Err(judge(error, &answer, &secret.into(), UnixMillis(0))),
    };
    Ok(fetched.into())
}

/// What is made of an answer of the host that a managed identity asks.
///
/// # Errors
/// [`TokenError`].
pub fn read_identity_answer(received: Received) -> Result<Usable, TokenError> {
    let response = received.into_response()?;
    let (head, body) = response.into_parts();
    let answer = Answer { status: head.status.as_u16(), headers: head.headers, body: body.into() };
    identity::read(&answer, UnixMillis(0)).map(Usable::from)
}

impl Received {
    fn into_response(self) -> Result<HttpResponse, TokenError> {
        let mut head = hyper::Response::builder().status(self.status);
        for (name, value) in
            [("content-type", self.content_type), ("retry-after", self.retry_after)]
        {
            if let Some(value) = value {
                head = head.header(name, value);
            }
        }
        head.body(self.body).map_err(|error| fault(&error))
    }
}

impl From<Fetched> for Usable {
    fn from(fetched: Fetched) -> Self {
        Self { token: fetched.token.expose_secret().to_owned(), lifetime: fetched.lifetime }
    }
}

fn fault(error: &dyn std::fmt::Display) -> TokenError {
    TokenError::Address { url: String::new(), reason: error.to_string() }
}
