use super::*;

const CLIENT: &str = "58d827e0-c69c-401f-8deb-b1224d129dc8";
const OBJECT: &str = "9d1f0a52-0c3b-4f89-8a2e-0b9d5f7c3e61";

fn access(path: Path) -> Access {
    Access {
        cloud: Cloud::Global,
        tenant: "contoso.onmicrosoft.com".into(),
        display_name: "o365-relay".into(),
        client_id: CLIENT.into(),
        object_id: OBJECT.into(),
        mailbox: "relay@contoso.com".into(),
        send_as: vec!["erp@contoso.com".into()],
        former: Former::default(),
        path,
    }
}

fn own() -> Access {
    access(Path::Applications(Group::Own))
}

#[test]
fn quotes_of_every_kind_are_doubled_and_line_ends_go() {
    for (text, expected) in [
        ("plain", "'plain'"),
        ("o'neill@contoso.com", "'o''neill@contoso.com'"),
        (
            "a\u{2019}; Remove-Mailbox *; \u{2018}",
            "'a\u{2019}\u{2019}; Remove-Mailbox *; \u{2018}\u{2018}'",
        ),
        ("\u{201a}\u{201b}", "'\u{201a}\u{201a}\u{201b}\u{201b}'"),
        ("a\r\nRemove-Mailbox *", "'aRemove-Mailbox *'"),
        ("$(Get-Date) `n \"x\"", "'$(Get-Date) `n \"x\"'"),
        ("", "''"),
    ] {
        assert_eq!(quoted(text), expected);
    }
}

/// The script without what stands in single quotes, as PowerShell reads them.
fn outside_quotes(script: &str) -> String {
    let mut outside = String::new();
    for line in script.lines().filter(|line| !line.starts_with('#')) {
        let mut quoted = false;
        let mut double = false;
        for c in line.chars() {
            match c {
                '"' if !quoted => double = !double,
                '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' if !double => {
                    quoted = !quoted;
                }
                _ if !quoted && !double => outside.push(c),
                _ => {}
            }
        }
        assert!(!quoted && !double, "an open string: {line}");
        outside.push('\n');
    }
    outside
}

#[test]
fn no_name_becomes_a_command() {
    let evil = "x\u{2019}; Remove-Mailbox -Identity y; '\n\"; $(Stop-Computer) #";
    for path in [
        Path::Applications(Group::Own),
        Path::Applications(Group::Existing(evil.into())),
        Path::Classic,
    ] {
        let access = Access {
            tenant: evil.into(),
            display_name: evil.into(),
            client_id: evil.into(),
            object_id: evil.into(),
            mailbox: evil.into(),
            send_as: vec![evil.into()],
            former: Former { mailboxes: vec![evil.into()], send_as: vec![evil.into()] },
            ..access(path)
        };
        for script in [access.script(), access.undo_script()] {
            let outside = outside_quotes(&script);
            assert!(
                !outside.contains("Remove-Mailbox ") && !outside.contains("Stop-"),
                "{outside}"
            );
            assert!(!script.lines().any(|line| line.starts_with("\"; ")), "{script}");
        }
    }
}

#[test]
fn rbac_for_applications_grants_one_role_for_one_group() {
    let script = own().script();
    let at = |command: &str| {
        let found = script.find(command);
        found.unwrap_or_else(|| panic!("no {command:?} in\n{script}"))
    };
    let order = [
        "Connect-ExchangeOnline -Organization 'contoso.onmicrosoft.com'\n".to_owned(),
        format!("New-ServicePrincipal -AppId '{CLIENT}' -ObjectId '{OBJECT}' -DisplayName 'o365-relay'"),
        "New-DistributionGroup -Name 'o365-relay-58d827e0' -Type Security".into(),
        "Add-DistributionGroupMember -Identity 'o365-relay-58d827e0' -Member 'relay@contoso.com'".into(),
        format!("New-ManagementScope -Name 'o365-relay {CLIENT}' -RecipientRestrictionFilter \"MemberOfGroup -eq '$dn'\""),
        format!(
            "New-ManagementRoleAssignment -Name 'o365-relay {CLIENT}' -Role 'Application SMTP.SendAsApp' \
             -App '{OBJECT}' -CustomResourceScope 'o365-relay {CLIENT}'"
        ),
        "Set-CASMailbox -Identity 'relay@contoso.com' -SmtpClientAuthenticationDisabled $false".into(),
        format!("Add-RecipientPermission -Identity 'erp@contoso.com' -Trustee '{OBJECT}' -AccessRights SendAs -Confirm:$false"),
        format!("\nTest-ServicePrincipalAuthorization -Identity '{OBJECT}' -Resource 'relay@contoso.com'\n"),
        format!("# if (Get-ManagementRoleAssignment -Identity 'o365-relay {CLIENT}' -ErrorAction SilentlyContinue)"),
        "# if (Get-DistributionGroup -Identity 'o365-relay-58d827e0' -ErrorAction SilentlyContinue) { Remove-DistributionGroup".into(),
        format!("Remove-ServicePrincipal -Identity '{OBJECT}' -Confirm:$false"),
    ];
    let places: Vec<usize> = order.iter().map(|command| at(command)).collect();
    assert!(places.is_sorted(), "{script}");
    for never in ["FullAccess", "Set-TransportConfig"] {
        assert!(!script.contains(never), "{script}");
    }
    // Exchange's limit for the name of an assignment.
    assert!(own().scope_name().len() <= 64);
}

#[test]
fn a_group_of_theirs_is_used_and_left_there() {
    let group = Group::Existing("relay senders".into());
    let script = access(Path::Applications(group)).script();
    assert!(script.contains("-Identity 'relay senders' -Member 'relay@contoso.com'"), "{script}");
    for never in ["New-DistributionGroup", "Remove-DistributionGroup"] {
        assert!(!script.contains(never), "{script}");
    }
}

#[test]
fn the_classic_path_gives_full_access() {
    let script = access(Path::Classic).script();
    let grant = format!(
        "\nAdd-MailboxPermission -Identity 'relay@contoso.com' -User '{OBJECT}' -AccessRights FullAccess\n"
    );
    assert!(script.contains(&grant), "{script}");
    assert!(
        script.contains("# if (Get-MailboxPermission -Identity 'relay@contoso.com'"),
        "{script}"
    );
    for never in ["ManagementScope", "Test-ServicePrincipal"] {
        assert!(!script.contains(never), "{script}");
    }
}

#[test]
fn each_cloud_has_its_environment() {
    for (cloud, end) in [
        (Cloud::Global, "'contoso.onmicrosoft.com'"),
        (Cloud::GccHigh, " -ExchangeEnvironmentName O365USGovGCCHigh"),
        (Cloud::Dod, " -ExchangeEnvironmentName O365USGovDoD"),
        (Cloud::China, " -ExchangeEnvironmentName O365China"),
    ] {
        let access = Access { cloud, ..own() };
        assert!(access.connect().ends_with(end), "{}", access.connect());
    }
    // High Volume Email has an allow-list of its own, by the object id.
    let script = Access { cloud: Cloud::Hve, ..own() }.script();
    assert!(script.contains(&format!(
        "\nAdd-HVEAppAccess -Identity 'relay@contoso.com' -AppIds '{OBJECT}'\n"
    )));
    assert!(!script.contains("Set-CASMailbox") && !script.contains("ManagementScope"), "{script}");
}

#[test]
fn undo_takes_back_what_was_given_and_leaves_the_switch() {
    let undo = access(Path::Classic).undo_script();
    let commands: Vec<_> = undo.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        commands,
        [
            "$ErrorActionPreference = 'Stop'".to_owned(),
            "Connect-ExchangeOnline -Organization 'contoso.onmicrosoft.com'".into(),
            format!(
                "if (Get-RecipientPermission -Identity 'erp@contoso.com' -Trustee '{OBJECT}' \
                 -ErrorAction SilentlyContinue) {{ Remove-RecipientPermission -Identity \
                 'erp@contoso.com' -Trustee '{OBJECT}' -AccessRights SendAs -Confirm:$false }}"
            ),
            format!(
                "if (Get-MailboxPermission -Identity 'relay@contoso.com' -User '{OBJECT}' \
                 -ErrorAction SilentlyContinue) {{ Remove-MailboxPermission -Identity \
                 'relay@contoso.com' -User '{OBJECT}' -AccessRights FullAccess -Confirm:$false }}"
            ),
            format!(
                "if (Get-ServicePrincipal -Identity '{OBJECT}' -ErrorAction SilentlyContinue) \
                 {{ Remove-ServicePrincipal -Identity '{OBJECT}' -Confirm:$false }}"
            ),
        ]
    );
    assert!(undo.contains(
        "# Set-CASMailbox -Identity 'relay@contoso.com' -SmtpClientAuthenticationDisabled $null"
    ));
}
