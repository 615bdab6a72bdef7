//! Microsoft Graph v1.0, as far as setup needs it. Every call is tried again while Graph is busy
//! or has not heard yet of what was made a moment ago.

use std::time::Duration;

use hyper::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    SetupError,
    http::{Answer, Body, Http},
};

/// Graph, asked as the admin who has signed in.
pub(super) struct Graph<'g> {
    pub http: &'g Http,
    /// `https://graph.microsoft.com`
    pub url: &'g str,
    pub token: SecretString,
    /// How long one call may be tried again.
    pub patience: Duration,
}

/// A call: what it does, in words for people, and how.
struct Call<'c> {
    what: String,
    method: Method,
    path: String,
    body: Option<&'c Value>,
    /// Whether "there is no such thing" may mean "not yet".
    lagging: bool,
}

impl Graph<'_> {
    /// The one thing in `collection` whose `property` is `value`.
    pub async fn find(
        &self,
        collection: &str,
        property: &str,
        value: &str,
    ) -> Result<Vec<Value>, SetupError> {
        let filter = format!("{property} eq '{}'", value.replace('\'', "''"));
        let filter: String =
            oauth2::url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let answer = self
            .call(Call {
                what: format!("look for {collection}"),
                method: Method::GET,
                path: format!("{collection}?$filter={filter}"),
                body: None,
                lagging: false,
            })
            .await?;
        match &answer["value"] {
            Value::Array(found) => Ok(found.clone()),
            _ => Err(SetupError::Incomplete {
                what: format!("look for {collection}"),
                member: "value",
            }),
        }
    }

    /// What is at `path`, which was made before.
    pub async fn get(&self, what: &str, path: String) -> Result<Value, SetupError> {
        let (what, method) = (what.to_owned(), Method::GET);
        self.call(Call { what, method, path, body: None, lagging: true }).await
    }

    /// The same; `None` if there is no such thing, after a while.
    pub async fn get_if_there(
        &self,
        what: &str,
        path: String,
    ) -> Result<Option<Value>, SetupError> {
        match self.get(what, path).await {
            Ok(found) => Ok(Some(found)),
            Err(SetupError::Graph { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an application. A call that got no clear answer may have made one all the same, so
    /// whoever tries again looks first.
    pub async fn create_application(&self, body: &Value) -> Result<Value, SetupError> {
        let what = "register the application";
        let answer = self.send(&Method::POST, "applications", Some(body)).await?;
        settled(what, answer)
    }

    /// Sends `body` about something that was made before.
    pub async fn send_about(
        &self,
        what: &str,
        method: Method,
        path: String,
        body: &Value,
    ) -> Result<Value, SetupError> {
        let what = what.to_owned();
        self.call(Call { what, method, path, body: Some(body), lagging: true }).await
    }

    /// Makes a service principal, unless there is one.
    pub async fn create_service_principal(&self, client_id: &str) -> Result<Value, SetupError> {
        let what = "create the service principal (enterprise application)".to_owned();
        let (path, body) = ("servicePrincipals".to_owned(), json!({ "appId": client_id }));
        self.call(Call { what, method: Method::POST, path, body: Some(&body), lagging: true }).await
    }

    /// Deletes; that there is nothing is fine.
    pub async fn delete(&self, what: &str, path: String) -> Result<(), SetupError> {
        let (what, method) = (what.to_owned(), Method::DELETE);
        match self.call(Call { what, method, path, body: None, lagging: false }).await {
            Ok(_) | Err(SetupError::Graph { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes a deleted thing out of the list of those that can be brought back. It may take a
    /// while to get there.
    pub async fn purge(&self, id: &str) -> Result<(), SetupError> {
        let what = "delete it for good".to_owned();
        let path = format!("directory/deletedItems/{id}");
        let call = Call { what, method: Method::DELETE, path, body: None, lagging: true };
        match self.call(call).await {
            Ok(_) | Err(SetupError::Graph { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, SetupError> {
        let deadline = Instant::now() + self.patience;
        let mut pause = Duration::from_secs(1);
        loop {
            let (wait, outcome) = match self.send(&call.method, &call.path, call.body).await {
                Ok(answer) => {
                    let wait = answer.retry_after.unwrap_or(pause);
                    let again = is_busy(&answer) || (call.lagging && may_be_lag(&answer));
                    let outcome = settled(&call.what, answer);
                    if !again {
                        return outcome;
                    }
                    (wait, outcome)
                }
                // None of these calls does anything twice.
                Err(error @ SetupError::Unreachable { .. }) => (pause, Err(error)),
                Err(error) => return Err(error),
            };
            if Instant::now() + wait > deadline {
                return outcome;
            }
            sleep(wait).await;
            pause = (pause * 2).min(Duration::from_secs(8));
        }
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, SetupError> {
        let url = format!("{}/v1.0/{path}", self.url);
        let body = body.map_or(Body::Nothing, Body::Json);
        self.http.ask(method.clone(), &url, Some(&self.token), body).await
    }
}

pub(super) fn is_busy(answer: &Answer) -> bool {
    answer.status == StatusCode::TOO_MANY_REQUESTS || answer.status.is_server_error()
}

/// 404 for a thing by its id, 400 for a client id that "does not reference a valid application".
fn may_be_lag(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::NOT_FOUND => true,
        StatusCode::BAD_REQUEST => {
            let text = answer.body["error"]["message"].as_str().unwrap_or_default();
            text.contains("does not reference a valid")
        }
        _ => false,
    }
}

/// The body of a success, or the error in words.
fn settled(what: &str, answer: Answer) -> Result<Value, SetupError> {
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let (what, status) = (what.to_owned(), answer.status.as_u16());
    let one_line = |text: &Value| -> String {
        let text = text.as_str().unwrap_or("no reason was given");
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
    };
    let error = &answer.body["error"];
    let (code, text) = (one_line(&error["code"]), one_line(&error["message"]));
    if status == 403 {
        let role = match what.contains("consent") {
            true => "Privileged Role Administrator or Global Administrator",
            false => super::ROLE,
        };
        return Err(SetupError::NoRole { what, text, role });
    }
    Err(SetupError::Graph { what, status, code, text })
}
