//! Who a session talks to: by what way it came, how it introduced itself, and as whom it logged in.

/// How the client introduced itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Hello {
    /// Not at all: devices do that, and we put up with it.
    #[default]
    None,
    /// HELO.
    Helo(String),
    /// EHLO.
    Ehlo(String),
}

impl Hello {
    /// The name given; empty if there was none.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::None => "",
            Self::Helo(name) | Self::Ehlo(name) => name,
        }
    }
}

/// Where the octets of a session come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Another host.
    #[default]
    Network,
    /// This host, by TCP.
    Loopback,
    /// This host, by a Unix socket.
    Socket,
}

/// The way between a client and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Channel {
    /// Where it begins.
    pub origin: Origin,
    /// Whether TLS protects it.
    pub tls: bool,
}

impl Channel {
    /// Whether nobody but the client and this host can read along.
    #[must_use]
    pub fn is_private(self) -> bool {
        self.tls || self.origin != Origin::Network
    }
}

/// The client of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// By what way it came.
    pub channel: Channel,
    /// How it introduced itself.
    pub hello: Hello,
    /// As whom it logged in.
    pub user: Option<String>,
}

impl Peer {
    /// A client that has not said anything.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { channel, ..Self::default() }
    }

    /// The same client after another EHLO or HELO: it stays logged in.
    #[must_use]
    pub fn greets(self, hello: Hello) -> Self {
        Self { hello, ..self }
    }

    /// The protocol for the Received field (RFC 3848, RFC 6531 section 4.3). Both name variants of
    /// ESMTP only.
    #[must_use]
    pub fn protocol(&self, smtputf8: bool) -> &'static str {
        let (tls, login) = (self.channel.tls, self.user.is_some());
        match (&self.hello, smtputf8, tls, login) {
            (Hello::None | Hello::Helo(_), ..) => "SMTP",
            (Hello::Ehlo(_), false, false, false) => "ESMTP",
            (Hello::Ehlo(_), false, false, true) => "ESMTPA",
            (Hello::Ehlo(_), false, true, false) => "ESMTPS",
            (Hello::Ehlo(_), false, true, true) => "ESMTPSA",
            (Hello::Ehlo(_), true, false, false) => "UTF8SMTP",
            (Hello::Ehlo(_), true, false, true) => "UTF8SMTPA",
            (Hello::Ehlo(_), true, true, false) => "UTF8SMTPS",
            (Hello::Ehlo(_), true, true, true) => "UTF8SMTPSA",
        }
    }
}
