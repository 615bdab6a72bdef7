use super::*;

const APP: &str = "58d827e0-c69c-401f-8deb-b1224d129dc8";
const OBJECT: &str = "9d1f0a52-0c3b-4f89-8a2e-0b9d5f7c3e61";
const MAILBOX: &str = "relay@sandbox.example";

fn run(exchange: &Exchange, script: &str) -> Result<Vec<String>, String> {
    let known = Known {
        tenant: ["5a4db0c5-0f5e-4b0e-9d36-7e1c2b8a9f10", "sandbox.example"],
        mailboxes: &[MAILBOX.to_owned()],
        principals: &[(APP.to_owned(), OBJECT.to_owned())],
    };
    let script = format!("Connect-ExchangeOnline -Organization 'sandbox.example'\n{script}");
    exchange.run(&script, &known).map_err(|fault| fault.to_string())
}

fn admits(exchange: &Exchange, consented: bool) -> Result<(), Closed> {
    let visitor = Visitor { client_id: APP, object_id: OBJECT, consented };
    exchange.admits(&visitor, "Relay@Sandbox.example")
}

const PRINCIPAL: &str = "New-ServicePrincipal -AppId '58d827e0-c69c-401f-8deb-b1224d129dc8' \
                         -ObjectId '9d1f0a52-0c3b-4f89-8a2e-0b9d5f7c3e61' -DisplayName 'it''s'";
const SWITCH: &str =
    "Set-CASMailbox -Identity 'relay@sandbox.example' -SmtpClientAuthenticationDisabled $false";

#[test]
fn full_access_counts_with_consent_and_the_switch() {
    let exchange = Exchange::new(ExchangeAdmin::Script);
    run(&exchange, PRINCIPAL).unwrap();
    assert_eq!(admits(&exchange, true), Err(Closed::NoRight));
    let grant = format!(
        "Add-MailboxPermission -Identity '{MAILBOX}' -User '{OBJECT}' -AccessRights FullAccess"
    );
    run(&exchange, &grant).unwrap();
    assert_eq!(admits(&exchange, true), Err(Closed::SmtpAuth));
    run(&exchange, SWITCH).unwrap();
    assert_eq!(admits(&exchange, true), Ok(()));
    assert_eq!(admits(&exchange, false), Err(Closed::NoRight), "the token has no role");
}

#[test]
fn a_role_counts_for_members_of_its_group_and_without_consent() {
    let exchange = Exchange::new(ExchangeAdmin::Script);
    let script = format!(
        "{PRINCIPAL}\n{SWITCH}\n\
         if (-not (Get-DistributionGroup -Identity 'o''neill s' -ErrorAction SilentlyContinue)) {{ New-DistributionGroup -Name 'o''neill s' -Type Security }}\n\
         $dn = (Get-DistributionGroup -Identity 'o''neill s').DistinguishedName.Replace(\"'\", \"''\")\n\
         New-ManagementScope -Name 's' -RecipientRestrictionFilter \"MemberOfGroup -eq '$dn'\" # why\n\
         New-ManagementRoleAssignment -Name 'a' -Role 'Application SMTP.SendAsApp' -App '{OBJECT}' -CustomResourceScope 's'\n\
         Test-ServicePrincipalAuthorization -Identity '{OBJECT}' -Resource '{MAILBOX}'\n"
    );
    assert_eq!(run(&exchange, &script).unwrap().last().unwrap(), "InScope False");
    assert_eq!(admits(&exchange, false), Err(Closed::NoRight), "no member yet");
    let member = format!(
        "if (-not (Get-DistributionGroupMember -Identity 'o''neill s' -ResultSize Unlimited | Where-Object {{ $_.PrimarySmtpAddress -eq '{MAILBOX}' }})) {{ Add-DistributionGroupMember -Identity 'o''neill s' -Member '{MAILBOX}' }}"
    );
    run(&exchange, &member).unwrap();
    run(&exchange, &member).unwrap();
    assert_eq!(admits(&exchange, false), Ok(()));
    assert_eq!(
        admits(&exchange, true),
        Err(Closed::NoRight),
        "consent brings the older check back"
    );
}

#[test]
fn what_is_wrong_with_a_script_is_told_and_nothing_of_it_counts() {
    let exchange = Exchange::new(ExchangeAdmin::Script);
    for (line, part) in [
        ("Remove-Mailbox -Identity 'x'", "not a cmdlet"),
        ("Get-ServicePrincipal -Identity 'x'; Remove-Mailbox", "; is not understood"),
        ("Get-ServicePrincipal -Identity 'x", "a string without an end"),
        ("Get-ServicePrincipal 'x'", "without the name of its parameter"),
        ("New-ServicePrincipal -AppId 'x' -ObjectId 'y'", "-DisplayName is missing"),
        ("Set-CASMailbox -Identity 'x' -SmtpClientAuthenticationDisabled $false", "no mailbox x"),
        ("Get-ServicePrincipal -Identity 'x' -Force yes", "no parameter -Force"),
        ("New-ServicePrincipal -AppId 'x' -ObjectId 'y' -DisplayName 'z'", "client id x"),
        ("if (Get-ServicePrincipal -Identity 'x') Remove-X", "{ is missing"),
    ] {
        let error = run(&exchange, &format!("{PRINCIPAL}\n{line}")).unwrap_err();
        assert!(error.starts_with("line 3: ") && error.contains(part), "{line}: {error}");
        assert!(exchange.rights().is_empty());
    }
    let wrong = PRINCIPAL.replace(OBJECT, "11111111-2222-4333-8444-555555555555");
    assert!(run(&exchange, &wrong).unwrap_err().contains("is not the object id"));
    let known = Known { tenant: ["a", "b"], mailboxes: &[], principals: &[] };
    assert!(exchange.run(SWITCH, &known).unwrap_err().to_string().contains("has to come first"));
}
