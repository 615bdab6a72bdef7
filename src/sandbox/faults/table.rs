//! The faults: one row each. Where several could strike at once, the upper one does. Replies are
//! Microsoft's as far as they are documented or were seen; the meaning says where they are not.

use super::kind::{Action, FaultKind, Form, Stage};
use crate::sandbox::session::TOO_MANY_CONNECTIONS;

/// The choices of a wrong certificate, in this order.
const CERTIFICATES: Form = Form::Choice(&["name", "authority", "expired"]);

pub(super) const FAULTS: &[FaultKind] = &[
    FaultKind {
        name: "token-wrong-certificate",
        stage: Stage::LoginHandshake,
        form: CERTIFICATES,
        action: Action::Certificate,
        meaning: "the token endpoint's certificate is for another name, from an authority that \
                  nobody knows, or expired",
    },
    FaultKind {
        name: "token-hang",
        stage: Stage::TokenRequest,
        form: Form::Time(300),
        action: Action::Hang,
        meaning: "the token endpoint reads a request and says nothing; after that time it closes",
    },
    FaultKind {
        name: "token-429",
        stage: Stage::TokenRequest,
        form: Form::Time(5),
        action: Action::TooManyRequests,
        meaning: "429, AADSTS90055, with this time as Retry-After",
    },
    FaultKind {
        name: "token-5xx",
        stage: Stage::TokenRequest,
        form: Form::Status,
        action: Action::ServerError,
        meaning: "a server error with AADSTS90033 and error `temporarily_unavailable`",
    },
    FaultKind {
        name: "token-garbage",
        stage: Stage::TokenRequest,
        form: Form::Nothing,
        action: Action::Garbage,
        meaning: "200 with the HTML of a captive portal instead of a token",
    },
    FaultKind {
        name: "bad-secret",
        stage: Stage::Credential,
        form: Form::Nothing,
        action: Action::WrongSecret,
        meaning: "401 `invalid_client`, AADSTS7000215, although the secret is right: as after a \
                  rotation that nobody told the client of",
    },
    FaultKind {
        name: "bad-assertion",
        stage: Stage::Assertion,
        form: Form::Choice(&["unregistered", "audience", "clock", "subject"]),
        action: Action::WrongAssertion,
        meaning: "401 `invalid_client` although the assertion is right: AADSTS700027, 50013, \
                  700024, 50013 for a certificate, 700211, 700212, 700024, 700213 for a federated \
                  token",
    },
    FaultKind {
        name: "token-refused",
        stage: Stage::Policy,
        form: Form::Choice(&[
            "conditional-access",
            "expired-secret",
            "security-defaults",
            "disabled",
            "no-service-principal",
            "other-cloud",
        ]),
        action: Action::RefuseToken,
        meaning: "the application proves itself and gets no token all the same: AADSTS53003, \
                  7000222, 530035, 7000112, 7000229, 900432",
    },
    FaultKind {
        name: "token-content",
        stage: Stage::TokenContent,
        form: Form::Choice(&["delegated", "no-roles", "other-roles", "other-audience"]),
        action: Action::OddToken,
        meaning: "the token is one of a user, has no `roles` (which still opens the mailbox, as with \
                  RBAC for Applications), only others, or is for another resource",
    },
    FaultKind {
        name: "login-clock",
        stage: Stage::LoginAnswer,
        form: Form::Time(600),
        action: Action::WrongDate,
        meaning: "the Date field of the login host is that much behind: to a client, its own clock \
                  seems to be ahead",
    },
    FaultKind {
        name: "identity-absent",
        stage: Stage::IdentityConnection,
        form: Form::Nothing,
        action: Action::Drop,
        meaning: "the endpoint for managed identities closes connections without a word, as \
                  something else at its address might",
    },
    FaultKind {
        name: "identity-refuses",
        stage: Stage::Identity,
        form: Form::Choice(&["429", "410", "404", "500", "no-identity"]),
        action: Action::RefuseIdentity,
        meaning: "the endpoint for managed identities gives no token: too many requests, being \
                  updated, not there yet, in trouble, or 400 `Identity not found`",
    },
    FaultKind {
        name: "device-code",
        stage: Stage::DeviceCode,
        form: Form::Choice(&["declined", "expired", "slow-down", "pending", "blocked"]),
        action: Action::RefuseDeviceCode,
        meaning: "the admin does not sign in: says no, lets the code expire, is asked too often, \
                  takes long, or is stopped by conditional access (AADSTS53003)",
    },
    FaultKind {
        name: "graph-refuses",
        stage: Stage::Graph,
        form: Form::Choice(&["403", "429", "503"]),
        action: Action::RefuseGraph,
        meaning: "Graph refuses a request: the admin has no role for it, too many requests, in \
                  trouble",
    },
    FaultKind {
        name: "graph-lag",
        stage: Stage::GraphObject,
        form: Form::Nothing,
        action: Action::Lag,
        meaning: "what was made a moment ago has not reached the server that is asked: 404, or \
                  400 where a client id is named",
    },
    FaultKind {
        name: "token-short",
        stage: Stage::TokenIssue,
        form: Form::Time(60),
        action: Action::ShortToken,
        meaning: "tokens are good for this time only, and say so",
    },
    FaultKind {
        name: "greeting-421",
        stage: Stage::Greeting,
        form: Form::Nothing,
        action: Action::Refuse(&["421 4.3.2 Service not available"]),
        meaning: "the server is busy from the first word on",
    },
    FaultKind {
        name: "hide-starttls",
        stage: Stage::Ehlo,
        form: Form::Nothing,
        action: Action::HideStartTls,
        meaning: "STARTTLS is not offered, as with somebody in the middle who wants to read along",
    },
    FaultKind {
        name: "hide-xoauth2",
        stage: Stage::SecuredEhlo,
        form: Form::Nothing,
        action: Action::HideXoauth2,
        meaning: "XOAUTH2 is not offered, as by a server that is none of Exchange Online's",
    },
    FaultKind {
        name: "refuse-tls",
        stage: Stage::StartTls,
        form: Form::Nothing,
        action: Action::Refuse(&["454 4.7.0 TLS not available due to temporary reason"]),
        meaning: "STARTTLS is refused (RFC 3207; Microsoft's own words are not known)",
    },
    FaultKind {
        name: "wrong-certificate",
        stage: Stage::SmtpHandshake,
        form: CERTIFICATES,
        action: Action::Certificate,
        meaning: "the smarthost's certificate is for another name, from an authority that nobody \
                  knows, or expired",
    },
    FaultKind {
        name: "auth-disabled",
        stage: Stage::Auth,
        form: Form::Choice(&["tenant", "mailbox"]),
        action: Action::Refuse(&[
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for \
             the Tenant. Visit https://aka.ms/smtp_auth_disabled",
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for \
             the Mailbox. Visit https://aka.ms/smtp_auth_disabled",
        ]),
        meaning: "SMTP AUTH is switched off",
    },
    FaultKind {
        name: "auth-policy",
        stage: Stage::Auth,
        form: Form::Choice(&["security-defaults", "conditional-access", "organization"]),
        action: Action::Refuse(&[
            "535 5.7.139 Authentication unsuccessful, user is locked by your organization's \
             security defaults policy. Contact your administrator.",
            "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be \
             authenticated successfully. Contact your administrator.",
            "535 5.7.139 Authentication unsuccessful, the organization configuration doesn't allow \
             this authentication request.",
        ]),
        meaning: "a policy of the tenant refuses the login",
    },
    FaultKind {
        name: "auth-535",
        stage: Stage::Auth,
        form: Form::Nothing,
        action: Action::Refuse(&["535 5.7.3 Authentication unsuccessful"]),
        meaning: "a good token is refused: no service principal, no right to the mailbox",
    },
    FaultKind {
        name: "auth-535-challenge",
        stage: Stage::Auth,
        form: Form::Nothing,
        action: Action::RefuseAfterChallenge,
        meaning: "334 with JSON in base64 first, then `535 5.7.3` whatever the client answers",
    },
    FaultKind {
        name: "auth-454",
        stage: Stage::Auth,
        form: Form::Nothing,
        action: Action::Refuse(&["454 4.7.0 Temporary authentication failure"]),
        meaning: "trouble behind the login",
    },
    FaultKind {
        name: "token-expired",
        stage: Stage::Auth,
        form: Form::Nothing,
        action: Action::VoidToken,
        meaning: "the token that is shown counts as expired from now on, `535 5.7.3`; with *1, \
                  the next token that is fetched is good",
    },
    FaultKind {
        name: "rate",
        stage: Stage::Mail,
        form: Form::Nothing,
        action: Action::Refuse(&[
            "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
        ]),
        meaning: "too many messages a minute, in Exchange Server's words",
    },
    FaultKind {
        name: "unknown-recipient",
        stage: Stage::Rcpt,
        form: Form::Addresses,
        action: Action::Refuse(&["550 5.1.1 User unknown"]),
        meaning: "these recipients are refused (Office 365 itself tells by a later notice)",
    },
    FaultKind {
        name: "throttle",
        stage: Stage::Data,
        form: Form::Nothing,
        action: Action::Refuse(&[TOO_MANY_CONNECTIONS]),
        meaning: "more than three connections submit for the mailbox",
    },
    FaultKind {
        name: "data-421",
        stage: Stage::Data,
        form: Form::Nothing,
        action: Action::Refuse(&["421 4.3.2 Service not available"]),
        meaning: "the server goes away between the recipients and the mail data",
    },
    FaultKind {
        name: "drop-before-dot",
        stage: Stage::MailData,
        form: Form::Nothing,
        action: Action::Drop,
        meaning: "the connection breaks once mail data has begun to come; the message is not taken",
    },
    FaultKind {
        name: "throttle-dot",
        stage: Stage::FinalDot,
        form: Form::Nothing,
        action: Action::Refuse(&["432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"]),
        meaning: "the older form of throttle, after the mail data",
    },
    FaultKind {
        name: "deny-sender",
        stage: Stage::FinalDot,
        form: Form::Addresses,
        action: Action::DenySender,
        meaning: "`554 5.2.252 SendAsDenied` if one of these stands in From or MAIL",
    },
    FaultKind {
        name: "blocked",
        stage: Stage::FinalDot,
        form: Form::Choice(&["5.2.252", "5.2.251", "5.2.253", "5.2.254", "5.2.255"]),
        action: Action::Refuse(&[
            "550 5.2.252 Sender throttled due to continuous send as denied errors",
            "550 5.2.251 Sender throttled due to continuous mailbox full errors",
            "550 5.2.253 Sender throttled due to continuous invalid licence errors",
            "550 5.2.254 Sender throttled due to continuous too many recipients errors",
            "550 5.2.255 Sender throttled due to continuous invalid recipients errors",
        ]),
        meaning: "the mailbox is blocked because the same error came again and again (at which \
                  command Microsoft says so is not documented)",
    },
    FaultKind {
        name: "quota",
        stage: Stage::FinalDot,
        form: Form::Nothing,
        action: Action::Refuse(&[
            "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
        ]),
        meaning: "the 10,000 recipients of the day are used up",
    },
    FaultKind {
        name: "mailbox-full",
        stage: Stage::FinalDot,
        form: Form::Nothing,
        action: Action::Refuse(&["554 5.2.2 STOREDRV.Submission.Exception:QuotaExceededException"]),
        meaning: "the mailbox is full, as a rule with Sent Items",
    },
    FaultKind {
        name: "busy",
        stage: Stage::FinalDot,
        form: Form::Nothing,
        action: Action::Refuse(&["451 4.7.0 Temporary server error. Please try again later."]),
        meaning: "trouble that goes away",
    },
    FaultKind {
        name: "invalid-content",
        stage: Stage::FinalDot,
        form: Form::Nothing,
        action: Action::Refuse(&["554 5.6.0 Invalid message content"]),
        meaning: "this message is refused for good",
    },
    FaultKind {
        name: "drop-at-dot",
        stage: Stage::FinalDot,
        form: Form::Nothing,
        action: Action::Drop,
        meaning: "the connection breaks at the final dot; the message is not taken",
    },
    FaultKind {
        name: "drop-after-dot",
        stage: Stage::Taken,
        form: Form::Nothing,
        action: Action::Drop,
        meaning: "the message is taken, then the connection breaks without the 250",
    },
    FaultKind {
        name: "slow-dot",
        stage: Stage::FinalReply,
        form: Form::Time(5),
        action: Action::Delay,
        meaning: "the reply to the final dot comes this much later, whichever it is",
    },
];
