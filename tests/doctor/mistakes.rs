//! The mistakes: how each is made, and what the doctor's first red line has to say.

use o365_relay::sandbox::{self, ClientCertificate, FederatedClaims, RelayCredential, SendAs};

use super::support::relay::Place;

/// One deliberate mistake. In what is expected, `{oid}`, `{client}`, `{tenant}`, `{mailbox}` and
/// `{directory}` stand for the sandbox's own.
pub struct Mistake {
    pub name: &'static str,
    /// Faults of the tenant.
    pub faults: &'static [&'static str],
    /// Settings of the relay.
    pub set: &'static [&'static str],
    /// How the tenant is other than usual.
    pub tenant: fn(&mut sandbox::Config),
    /// What else is done.
    pub make: fn(&mut Place),
    pub from: Option<&'static str>,
    pub send_to: Option<&'static str>,
    /// Seconds that this host's clock is ahead.
    pub clock_ahead: u64,
    /// The check whose line is the first red one.
    pub red: &'static str,
    /// What it says.
    pub says: &'static [&'static str],
    /// What its cure says.
    pub cure: &'static [&'static str],
    /// Red lines besides, which follow from the first.
    pub consequences: usize,
}

impl Mistake {
    pub const NONE: Self = Self {
        name: "none",
        faults: &[],
        set: &[],
        tenant: |_| {},
        make: |_| {},
        from: None,
        send_to: None,
        clock_ahead: 0,
        red: "",
        says: &[],
        cure: &[],
        consequences: 0,
    };
}

const OTHER_ID: &str = "11111111-2222-3333-4444-555555555555";
const SOMEBODY: Option<&str> = Some("somebody@example.com");

/// The certificate of one pair and the key of another, or of the same.
pub fn use_pair(place: &mut Place, certificate: &ClientCertificate, key: &ClientCertificate) {
    let credential = RelayCredential::Certificate {
        certificate: place.write("certificate.pem", &certificate.certificate_pem()),
        private_key: place.write("key.pem", &key.private_key_pem()),
    };
    place.use_credential(&credential);
}

/// A token of the platform with these claims.
pub fn use_federated(place: &mut Place, claims: &FederatedClaims) {
    let token = place.sandbox.federated_token(claims).expect("a token");
    let path = place.write("token", &token);
    place.use_credential(&RelayCredential::FederatedToken(path));
}

fn pair(days: u16) -> ClientCertificate {
    ClientCertificate::new(days).expect("a certificate")
}

pub const MISTAKES: &[Mistake] = &[
    // --- the token endpoint
    Mistake {
        name: "wrong tenant",
        set: &["office365.tenant_id=11111111-2222-3333-4444-555555555555"],
        red: "token",
        says: &["AADSTS90002", "there is no such tenant"],
        cure: &[
            "Set tenant_id (11111111-2222-3333-4444-555555555555 now) to the Directory (tenant) ID",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "wrong client id",
        set: &["office365.client_id=11111111-2222-3333-4444-555555555555"],
        red: "token",
        says: &["AADSTS700016", "does not know this application"],
        cure: &[
            "client_id 11111111-2222-3333-4444-555555555555 and tenant_id {tenant} belong together",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "the secret's id instead of its value",
        set: &["office365.client_secret=11111111-2222-3333-4444-555555555555"],
        red: "token",
        says: &["AADSTS7000215", "often the secret's id was pasted instead of its value"],
        cure: &["Put the Value column of App registrations > {client}", "not the Secret ID"],
        ..Mistake::NONE
    },
    Mistake {
        name: "expired secret",
        faults: &["token-refused=expired-secret"],
        red: "token",
        says: &["AADSTS7000222", "the client secret has expired"],
        cure: &["Create a new secret under App registrations > {client}"],
        ..Mistake::NONE
    },
    Mistake {
        name: "a secret that is too new",
        faults: &["bad-secret"],
        red: "token",
        says: &["AADSTS7000215"],
        cure: &["can be refused for some minutes (the configuration was changed", "--wait 10m"],
        ..Mistake::NONE
    },
    Mistake {
        name: "certificate not uploaded",
        make: |place| {
            let pair = pair(90);
            use_pair(place, &pair, &pair);
        },
        red: "token",
        says: &["AADSTS700027"],
        cure: &["Upload the public certificate to {client}", "has the SHA-1 thumbprint "],
        ..Mistake::NONE
    },
    Mistake {
        name: "certificate and key are no pair",
        make: |place| use_pair(place, &pair(90), &pair(90)),
        red: "credential",
        says: &[
            "office365.certificate_file",
            "does not belong to the private key in {directory}/key.pem",
        ],
        cure: &["Put certificate and key of one pair there"],
        ..Mistake::NONE
    },
    Mistake {
        name: "expired certificate",
        clock_ahead: 172_800,
        make: |place| {
            let pair = pair(1);
            place.sandbox.register(&pair);
            use_pair(place, &pair, &pair);
        },
        red: "credential",
        says: &["certificate {directory}/certificate.pem ended at 20"],
        cure: &["upload the certificate to the app registration", "openssl req -x509"],
        // The clock that was moved to let it expire, and what Entra says of both.
        consequences: 2,
        ..Mistake::NONE
    },
    Mistake {
        name: "secret file that is not there",
        make: |place| {
            let path = place.use_secret_file("x");
            std::fs::remove_file(path).expect("the file");
        },
        red: "credential",
        says: &["office365.client_secret_file", "No such file", "{directory}/client_secret"],
        cure: &["Put the client secret's Value there"],
        ..Mistake::NONE
    },
    Mistake {
        name: "federated credential with another subject",
        make: |place| {
            let subject = "system:serviceaccount:mail:other".into();
            use_federated(place, &FederatedClaims { subject, ..FederatedClaims::default() });
        },
        red: "token",
        says: &["AADSTS700213"],
        cure: &[
            "letter by letter",
            "Issuer               https://issuer.sandbox.example/",
            "Subject identifier   system:serviceaccount:mail:other",
            "Audience             api://AzureADTokenExchange",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "managed identity where there is none",
        make: |place| {
            place.use_credential(&RelayCredential::ManagedIdentity);
            let host = "AZURE_POD_IDENTITY_AUTHORITY_HOST".to_owned();
            place.environment.insert(host, "http://127.0.0.1:1".into());
        },
        red: "token",
        says: &["could not reach the managed identity endpoint http://127.0.0.1:1/metadata"],
        cure: &["Managed identities exist on Azure hosts only", "certificate_file"],
        ..Mistake::NONE
    },
    Mistake {
        name: "scope of another cloud",
        set: &["office365.scope=https://outlook.office365.us/.default"],
        red: "token",
        says: &["AADSTS500011"],
        cure: &["office365.scope is that of another cloud"],
        ..Mistake::NONE
    },
    Mistake {
        name: "wrong cloud",
        faults: &["token-refused=other-cloud"],
        red: "token",
        says: &["AADSTS900432", "different national clouds"],
        cure: &["Set office365.cloud to the cloud of tenant {tenant}"],
        ..Mistake::NONE
    },
    Mistake {
        name: "conditional access at the login host",
        faults: &["token-refused=conditional-access"],
        red: "token",
        says: &["AADSTS53003", "conditional access for workload identities"],
        cure: &["Exclude the service principal of {client} from the policy", "public IP"],
        ..Mistake::NONE
    },
    Mistake {
        name: "security defaults at the login host",
        faults: &["token-refused=security-defaults"],
        red: "token",
        says: &["AADSTS530035"],
        cure: &["Review security defaults and tenant policies of {tenant}"],
        ..Mistake::NONE
    },
    Mistake {
        name: "disabled application",
        faults: &["token-refused=disabled"],
        red: "token",
        says: &["AADSTS7000112", "the application is disabled"],
        cure: &["Set Enterprise applications > {client} > Properties"],
        ..Mistake::NONE
    },
    Mistake {
        name: "application without a service principal",
        faults: &["token-refused=no-service-principal"],
        red: "token",
        says: &["AADSTS7000229"],
        cure: &["`New-MgServicePrincipal -AppId {client}`"],
        ..Mistake::NONE
    },
    Mistake {
        name: "captive portal",
        faults: &["token-garbage"],
        red: "token",
        says: &["a body that starts with \"<!DOCTYPE html>"],
        cure: &["look for a captive portal or a proxy"],
        ..Mistake::NONE
    },
    // --- what is in the token
    Mistake {
        name: "delegated token",
        faults: &["token-content=delegated"],
        red: "permission",
        says: &["a delegated token of somebody@sandbox.example (scp SMTP.Send)"],
        cure: &["client credentials grant", "Application permission, not a Delegated one"],
        ..Mistake::NONE
    },
    Mistake {
        name: "scope of Graph",
        set: &["office365.scope=https://graph.microsoft.com/.default"],
        red: "audience",
        says: &["is for Microsoft Graph", "535 5.7.3"],
        cure: &["Set office365.scope to https://outlook.office365.com/.default"],
        ..Mistake::NONE
    },
    Mistake {
        name: "token for something else",
        faults: &["token-content=other-audience"],
        red: "audience",
        says: &["aud https://management.azure.com is not Exchange Online"],
        cure: &["Set office365.scope to https://outlook.office365.com/.default"],
        ..Mistake::NONE
    },
    // --- the way there
    Mistake {
        name: "clock 10 minutes ahead",
        clock_ahead: 600,
        red: "clock",
        says: &["10m", "ahead of that of localhost", "AADSTS700024"],
        cure: &["timedatectl set-ntp true"],
        ..Mistake::NONE
    },
    Mistake {
        name: "clock off, as the login host's Date tells",
        faults: &["login-clock=1h"],
        red: "clock",
        says: &["1h", "ahead of that of localhost"],
        cure: &["timedatectl set-ntp true"],
        ..Mistake::NONE
    },
    Mistake {
        name: "clock off with a certificate",
        clock_ahead: 7_200,
        make: |place| {
            let pair = pair(90);
            place.sandbox.register(&pair);
            use_pair(place, &pair, &pair);
        },
        red: "clock",
        says: &["2h", "ahead of that of localhost"],
        cure: &["timedatectl set-ntp true"],
        consequences: 1,
        ..Mistake::NONE
    },
    Mistake {
        name: "TLS interception of the login host",
        faults: &["token-wrong-certificate=authority"],
        red: "login-tls",
        says: &["intercepts TLS", "issued by CN=Some Other CA"],
        cure: &["set office365.ca_file"],
        ..Mistake::NONE
    },
    Mistake {
        name: "TLS interception of the submission host",
        faults: &["wrong-certificate=authority"],
        red: "smtp-tls",
        says: &["intercepts TLS", "issued by CN=Some Other CA"],
        cure: &["set office365.ca_file"],
        ..Mistake::NONE
    },
    Mistake {
        name: "another host behind the name of the login host",
        faults: &["token-wrong-certificate=name"],
        red: "login-tls",
        says: &["the certificate is for another name"],
        cure: &["Check office365.login_url"],
        ..Mistake::NONE
    },
    Mistake {
        name: "certificate of the submission host out of its time",
        faults: &["wrong-certificate=expired"],
        red: "smtp-tls",
        says: &["the certificate is good from 20"],
        cure: &["Check the clock of this host (`date -u`)"],
        ..Mistake::NONE
    },
    Mistake {
        name: "no DNS for the login host",
        set: &["office365.login_url=https://login.nowhere.invalid"],
        red: "login-dns",
        says: &["login.nowhere.invalid (dns): "],
        cure: &["this host can resolve login.nowhere.invalid (/etc/resolv.conf"],
        ..Mistake::NONE
    },
    Mistake {
        name: "no DNS for the submission host",
        set: &["office365.smtp_host=smtp.nowhere.invalid"],
        red: "smtp-dns",
        says: &["could not look up smtp.nowhere.invalid"],
        cure: &["this host can resolve smtp.nowhere.invalid (/etc/resolv.conf"],
        ..Mistake::NONE
    },
    Mistake {
        name: "login host blocked",
        set: &["office365.login_url=https://localhost:1"],
        red: "login-connection",
        says: &["could not reach localhost:1 (connect)", "Connection refused"],
        cure: &["firewall lets this host reach localhost, TCP port 1"],
        ..Mistake::NONE
    },
    Mistake {
        name: "port of the submission host blocked, with a proxy that is not used",
        set: &["office365.smtp_port=1"],
        make: |place| {
            let proxy = "http://user:secret@proxy.example:3128".into();
            place.environment.insert("HTTPS_PROXY".into(), proxy);
        },
        red: "smtp-connection",
        says: &["could not connect to localhost:1", "Connection refused"],
        cure: &[
            "localhost, TCP port 1",
            "most HTTP proxies",
            "HTTPS_PROXY is set, but o365-relay uses no proxy",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "STARTTLS cut out",
        faults: &["hide-starttls"],
        red: "smtp-tls",
        says: &["does not offer STARTTLS"],
        cure: &["somebody in between cuts STARTTLS out"],
        ..Mistake::NONE
    },
    Mistake {
        name: "a server that is not Exchange Online",
        faults: &["hide-xoauth2"],
        red: "xoauth2",
        says: &["does not offer AUTH XOAUTH2"],
        cure: &["Check office365.smtp_host"],
        ..Mistake::NONE
    },
    // --- Exchange
    Mistake {
        name: "wrong Object ID in Exchange",
        tenant: |config| config.object_id_in_exchange = Some(OTHER_ID.into()),
        red: "login",
        says: &["535 5.7.3", "knows it by another Object ID than {oid}", "no FullAccess"],
        cure: &[
            "Connect-ExchangeOnline -Organization '{tenant}'",
            "Get-ServicePrincipal | Where-Object { $_.AppId -eq '{client}' }",
            "New-ServicePrincipal -AppId '{client}' -ObjectId '{oid}'",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "no permission at all",
        faults: &["token-content=no-roles", "auth-535"],
        red: "login",
        says: &["neither a role assignment of RBAC", "the token has no roles"],
        cure: &[
            "Test-ServicePrincipalAuthorization -Identity '{oid}' -Resource '{mailbox}'",
            "-Role 'Application SMTP.SendAsApp' -App '{oid}'",
            "Application permission SMTP.SendAsApp, admin consent",
            "Add-MailboxPermission -Identity '{mailbox}' -User '{oid}' -AccessRights FullAccess",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "a mailbox without the right, or none",
        set: &["office365.mailbox=o'neill@sandbox.example"],
        red: "login",
        says: &["the application has no FullAccess", "there is no mailbox o'neill@sandbox.example"],
        cure: &[
            "Path A, as the token has it",
            "Add-MailboxPermission -Identity 'o''neill@sandbox.example' -User '{oid}'",
            "Test-ServicePrincipalAuthorization -Identity '{oid}' -Resource 'o''neill@sandbox.example'",
            "Get-Mailbox -Identity 'o''neill@sandbox.example'",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "propagation",
        faults: &["auth-535"],
        red: "login",
        says: &[
            "the change has not spread yet, which takes 30 min to 2 h",
            "the configuration was changed",
            "when Exchange was told is not known here",
        ],
        cure: &["o365-relay doctor --wait 2h"],
        ..Mistake::NONE
    },
    Mistake {
        name: "SMTP AUTH off for the mailbox",
        faults: &["auth-disabled=mailbox"],
        red: "login",
        says: &["SMTP AUTH is switched off for the mailbox", "535 5.7.139"],
        cure: &["Set-CASMailbox -Identity '{mailbox}' -SmtpClientAuthenticationDisabled $false"],
        ..Mistake::NONE
    },
    Mistake {
        name: "SMTP AUTH off for the tenant",
        faults: &["auth-disabled=tenant"],
        red: "login",
        says: &["SMTP AUTH is switched off for the tenant, and not on for the mailbox"],
        cure: &[
            "the mailbox's switch outweighs the tenant's",
            "Set-CASMailbox -Identity '{mailbox}' -SmtpClientAuthenticationDisabled $false",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "security defaults at AUTH",
        faults: &["auth-policy=security-defaults"],
        red: "login",
        says: &["a policy of the tenant refuses the login", "security defaults policy"],
        cure: &["Review security defaults", "Service principal sign-ins"],
        ..Mistake::NONE
    },
    Mistake {
        name: "conditional access at AUTH",
        faults: &["auth-policy=conditional-access"],
        red: "login",
        says: &["a policy of the tenant refuses the login", "did not meet the criteria"],
        cure: &["conditional access", "Service principal sign-ins", "Get-TransportConfig"],
        ..Mistake::NONE
    },
    // --- a message
    Mistake {
        name: "sender without Send-As",
        tenant: |config| config.send_as = SendAs::OnlyMailbox,
        from: Some("erp@sandbox.example"),
        send_to: SOMEBODY,
        red: "send",
        says: &["554 5.2.252", "the mailbox {mailbox} may not send as erp@sandbox.example"],
        cure: &[
            "Add-RecipientPermission -Identity 'erp@sandbox.example' -Trustee '{oid}' -AccessRights SendAs",
        ],
        ..Mistake::NONE
    },
    Mistake {
        name: "sender that the relay does not take",
        set: &["sender.allow=*@contoso.example"],
        from: Some("erp@sandbox.example"),
        send_to: SOMEBODY,
        red: "sender",
        says: &["sender.allow does not have it", "550 5.7.1"],
        cure: &["Add \"erp@sandbox.example\" to sender.allow"],
        ..Mistake::NONE
    },
    Mistake {
        name: "quota of the day",
        faults: &["quota"],
        send_to: SOMEBODY,
        red: "send",
        says: &["SubmissionQuotaExceeded", "10,000 recipients of the last 24 hours"],
        cure: &["Wait, or spread the mail over several mailboxes"],
        ..Mistake::NONE
    },
    Mistake {
        name: "blocked mailbox",
        faults: &["blocked"],
        send_to: SOMEBODY,
        red: "send",
        says: &["550 5.2.252", "Exchange has blocked the mailbox for a while"],
        cure: &["-Trustee {oid} -AccessRights SendAs", "then wait"],
        ..Mistake::NONE
    },
    Mistake {
        name: "full mailbox",
        faults: &["mailbox-full"],
        send_to: SOMEBODY,
        red: "send",
        says: &["554 5.2.2", "the mailbox is full"],
        cure: &[
            "Set-Mailbox -Identity {mailbox} -MessageCopyForSMTPClientSubmissionEnabled $false",
        ],
        ..Mistake::NONE
    },
    // --- this host
    Mistake {
        name: "misspelt key",
        set: &["office365.mailbx=x"],
        red: "configuration",
        says: &["`office365.mailbx`", "did you mean `office365.mailbox`?", "(--set)"],
        cure: &["o365-relay config check"],
        ..Mistake::NONE
    },
    Mistake {
        name: "queue directory that cannot be made",
        set: &["queue.directory=/nowhere/at/all"],
        red: "queue",
        says: &["there is no /nowhere/at either"],
        cure: &["install -d -m 0700 -o o365-relay /nowhere/at/all"],
        consequences: 0,
        ..Mistake::NONE
    },
    Mistake {
        name: "full disk",
        set: &["queue.min_free_bytes=900TiB"],
        make: |place| {
            std::fs::create_dir(place.directory.path().join("queue")).expect("a directory");
        },
        red: "disk",
        says: &["queue.min_free_bytes is 900.0 TiB", "452 4.3.1"],
        cure: &["df -h {directory}/queue"],
        ..Mistake::NONE
    },
];
