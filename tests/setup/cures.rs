//! What the doctor prints against `535 5.7.3` is run as it stands, and helps.

use super::*;

impl Place {
    /// The doctor's red line about the login: its cure, or `None` if there is no red line.
    pub async fn cure(&self) -> Option<Vec<String>> {
        self.cure_as(MAILBOX).await
    }

    /// The same for this mailbox.
    pub async fn cure_as(&self, mailbox: &str) -> Option<Vec<String>> {
        let mut command = doctor(&self.path("config.toml"), &self.root.path().join("queue"));
        command.args(["--json", "--set", &format!("office365.mailbox={mailbox}")]);
        let told = tokio::task::spawn_blocking(move || tell(&mut command)).await.unwrap();
        let report: serde_json::Value = serde_json::from_str(&told.out).unwrap();
        let red = report["checks"].as_array().unwrap().iter().find(|one| one["colour"] == "red");
        let red = red?;
        assert_eq!(red["id"], "login", "{report:#}");
        assert!(red["finding"].as_str().unwrap().contains("535 5.7.3"), "{report:#}");
        let lines = red["cure"].as_array().unwrap().iter();
        Some(lines.map(|line| line.as_str().unwrap().to_owned()).collect())
    }

    /// The admin runs the cure, but for what stands between these two lines (the other path).
    fn run_cure(&self, cure: &[String], but: [&str; 2]) -> Vec<String> {
        let at = |part| cure.iter().position(|line| line.contains(part)).unwrap();
        self.run_in_exchange(&[&cure[..at(but[0])], &cure[at(but[1])..]].concat().join("\n"))
    }

    fn tell_exchange(&self, commands: &str) {
        let connect = "Connect-ExchangeOnline -Organization 'sandbox.example'";
        self.sandbox.run_exchange_script(&format!("{connect}\n{commands}")).unwrap();
    }
}

const NOT_PATH_A: [&str; 2] = ["Or path A", "# 3. SMTP AUTH"];
const NOT_PATH_B: [&str; 2] = ["Or path B", "# 3. SMTP AUTH"];

#[tokio::test(flavor = "multi_thread")]
async fn the_cure_opens_the_mailbox_on_both_paths() {
    for (path, but) in [("applications", NOT_PATH_A), ("classic", NOT_PATH_B)] {
        let place = Place::new().await;
        place.plain(&["--path", path]).await;
        // As where everything was done by hand.
        fs::remove_file(place.path("config.setup.json")).unwrap();
        let cure = place.cure().await.unwrap();
        place.run_cure(&cure, but);
        assert_eq!(place.cure().await, None, "{path}");
        // Running it again harms nothing.
        place.run_cure(&cure, but);
        assert_eq!(place.cure().await, None, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mailbox_goes_into_the_group_that_setup_was_given() {
    let place = Place::new().await;
    place.tell_exchange("New-DistributionGroup -Name 'relay senders' -Type Security");
    place.plain(&["--group", "relay senders"]).await;
    place.run_script();
    assert_eq!(place.cure().await, None);
    place.tell_exchange(&format!(
        "Remove-DistributionGroupMember -Identity 'relay senders' -Member '{MAILBOX}' -Confirm:$false"
    ));
    let cure = place.cure().await.unwrap();
    place.run_cure(&cure, NOT_PATH_A);
    assert_eq!(place.cure().await, None, "{cure:#?}");
    assert_eq!(place.count("group "), 1, "{:?}", place.sandbox.directory());

    // Without the record nobody knows the group: how to look stands before what makes one.
    fs::remove_file(place.path("config.setup.json")).unwrap();
    place.tell_exchange(&format!(
        "Remove-DistributionGroupMember -Identity 'relay senders' -Member '{MAILBOX}' -Confirm:$false"
    ));
    let cure = place.cure().await.unwrap();
    let at = |part: &str| cure.iter().position(|line| line.contains(part)).unwrap();
    let look = at("Get-ManagementScope -Identity 'o365-relay ");
    assert!(cure[look].ends_with("| Format-List RecipientFilter"), "{cure:#?}");
    assert!(cure[look - 1].contains("Is there a scope already?"), "{cure:#?}");
    assert!(look < at("New-DistributionGroup"), "{cure:#?}");
}
