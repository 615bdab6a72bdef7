//! The body of a request to the token endpoint, `application/x-www-form-urlencoded`.

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, header};

use super::entra::TokenRefusal;

/// The parameters of a token request. One of them is the secret, so there is no `Debug`.
#[derive(Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form; `None` if it is malformed or a parameter stands twice (RFC 6749 section 3.2).
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut form = Self::default();
        for pair in body.split(|octet| *octet == b'&').filter(|pair| !pair.is_empty()) {
            let equals = memchr::memchr(b'=', pair)?;
            let name = decode(&pair[..equals], true)?;
            if form.0.iter().any(|(seen, _)| *seen == name) {
                return None;
            }
            form.0.push((name, decode(&pair[equals + 1..], true)?));
        }
        Some(form)
    }

    /// A parameter that is there and not empty.
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(seen, _)| seen == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Adds a parameter.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// RFC 6749 section 2.3.1: id and secret may come in a header instead, never in both.
    pub fn add_basic_credentials(&mut self, headers: &HeaderMap) -> Result<(), TokenRefusal> {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(()) };
        let malformed = || TokenRefusal::malformed("the Authorization header");
        let (id, secret) = basic_credentials(value.as_bytes()).ok_or_else(malformed)?;
        if ["client_secret", "client_assertion"].iter().any(|name| self.value(name).is_some()) {
            return Err(TokenRefusal::malformed("more than one client credential"));
        }
        match self.value("client_id") {
            None => self.set("client_id", &id),
            Some(same) if same == id => {}
            Some(_) => return Err(TokenRefusal::malformed("two different client ids")),
        }
        self.set("client_secret", &secret);
        Ok(())
    }
}

fn basic_credentials(value: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let pair = STANDARD.decode(encoded).ok()?;
    let colon = memchr::memchr(b':', &pair)?;
    Some((decode(&pair[..colon], true)?, decode(&pair[colon + 1..], true)?))
}

/// Undoes percent-encoding; `None` if it is broken or hides something other than UTF-8.
pub(super) fn decode(text: &[u8], plus_is_space: bool) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        octets.push(match first {
            b'+' if plus_is_space => b' ',
            b'%' => {
                let (digits, after) = after.split_at_checked(2)?;
                rest = after;
                let hex = |octet: u8| char::from(octet).to_digit(16);
                u8::try_from(hex(digits[0])? * 16 + hex(digits[1])?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded() {
        let form = Form::read(b"a=1+2&scope=https%3A%2F%2Fx%2f.default&&empty=").unwrap();
        assert_eq!(form.value("a"), Some("1 2"));
        assert_eq!(form.value("scope"), Some("https://x/.default"));
        assert_eq!((form.value("empty"), form.value("absent")), (None, None));
    }

    #[test]
    fn a_malformed_form_is_refused() {
        for body in [&b"a"[..], b"a=1&a=2", b"a=%2", b"a=%zz", b"a=%ff", b"a=%+1"] {
            assert!(Form::read(body).is_none(), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn basic_credentials_stand_alone() {
        let headers = |text: &str| {
            let value = format!("Basic {}", STANDARD.encode(text)).parse().unwrap();
            HeaderMap::from_iter([(header::AUTHORIZATION, value)])
        };
        let mut form = Form::default();
        form.add_basic_credentials(&headers("app:se%2Bcret")).unwrap();
        assert_eq!(form.value("client_id"), Some("app"));
        assert_eq!(form.value("client_secret"), Some("se+cret"));
        assert!(form.add_basic_credentials(&headers("app:other")).is_err());
        assert!(Form::default().add_basic_credentials(&headers("no colon")).is_err());
    }
}
