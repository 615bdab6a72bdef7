# Runs in the guest, as root, under a systemd that has booted. Lines that begin with `trial:` are
# shown outside; the end of the rest is, if something fails.
set -eEuo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root TERM=dumb
shopt -s nullglob
cd /trial

begun=$SECONDS
ok() { echo "trial: $((SECONDS - begun)) s ok   $*"; }
fail() {
    echo "trial: FAILED $*"
    trap - ERR
    systemctl status --no-pager --full --lines=0 o365-relay.service o365-relay.socket || true
    journalctl --no-pager -u o365-relay.service -n 30 || true
    journalctl --no-pager -u tenant.service -n 10 || true
    exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# Asks for up to a minute and a half whether a condition holds.
until_holds() {
    local deadline=$((SECONDS + 90))
    while ((SECONDS < deadline)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    fail "never held: $*"
}
property() { systemctl show --value -p "$1" o365-relay.service; }
main_pid() { property MainPID; }
tells_of_the_token() { property StatusText | grep "0 queued, token for"; }
is_active() { systemctl --quiet is-active o365-relay.service; }
# Both asked for at once: between two questions a process may end.
another_pid_than() {
    local MainPID ActiveState
    eval "$(systemctl show -p MainPID -p ActiveState o365-relay.service)"
    [[ $ActiveState == active && $MainPID != 0 && $MainPID != "$1" ]]
}
arrived() { local files=(/trial/saved/*.eml); grep -l "$1" "${files[@]}"; }
send() {
    o365-relay send --to somebody@example.com --subject "$1" >/dev/null
    until_holds arrived "Subject: $1"
}

# ---- A fake tenant ------------------------------------------------------------------------------

install() { dpkg "$@" </dev/null >said 2>&1 || { cat said; fail "dpkg $*"; }; }
install -i o365-relay.deb
grep -q "o365-relay is installed, and not started" said
grep -q "systemctl enable --now o365-relay" said
! is_active
! systemctl --quiet is-enabled o365-relay.service
[[ $(stat -c '%a %U %G' /etc/o365-relay/config.toml) == "640 root o365-relay" ]]
[[ $(stat -c '%a %U %G' /var/lib/o365-relay) == "700 o365-relay o365-relay" ]]
man_pages=(/usr/share/man/man1/o365-relay*)
ok "installed: not started, says what to do; ${#man_pages[@]} man pages"

systemctl start o365-relay 2>/dev/null && fail "started with a placeholder"
[[ $(property ExecMainStatus) == 78 && $(property NRestarts) == 0 ]]
journalctl --no-pager -u o365-relay | grep -q "your-tenant.onmicrosoft.com"
ok "a start with the placeholder fails once, with 78 and the reason in the journal"
systemctl reset-failed o365-relay

systemd-run --quiet --unit=tenant o365-relay sandbox --only --directory /trial/tenant \
    --save /trial/saved --login-address 127.0.0.1:2443 --smtp-address 127.0.0.1:2587
until_holds test -s tenant/office365.toml
value() { sed -n "s/^$1 = //p" tenant/office365.toml | tr -d '"'; }
cp "$(value ca_file)" /etc/ssl/sandbox-ca.pem
chmod 644 /etc/ssl/sandbox-ca.pem

# ---- Three values, a secret, and start ----------------------------------------------------------

sed -i -e "s|your-tenant.onmicrosoft.com|$(value tenant_id)|" \
    -e "s|your-client-id|$(value client_id)|" -e "s|your-mailbox|$(value mailbox)|" \
    /etc/o365-relay/config.toml
(umask 077 && value client_secret >/etc/o365-relay/client_secret)
# Where the fake tenant is; nobody has to set these for the real one.
cat >/etc/default/o365-relay <<VARIABLES
O365_RELAY__OFFICE365__LOGIN_URL=$(value login_url)
O365_RELAY__OFFICE365__SMTP_HOST=$(value smtp_host)
O365_RELAY__OFFICE365__SMTP_PORT=$(value smtp_port)
O365_RELAY__OFFICE365__CA_FILE=/etc/ssl/sandbox-ca.pem
O365_RELAY__OFFICE365__PACE=unlimited
VARIABLES
systemctl enable --quiet --now o365-relay
is_active
send "first"
ok "three values and a secret, systemctl start: mail arrives at the tenant"
until_holds tells_of_the_token
ok "systemctl status says: $(property StatusText)"
pid=$(main_pid)
[[ $(stat -c %U "/proc/$pid") == o365-relay ]]
[[ $(sed -n 's/^CapEff:\t//p' "/proc/$pid/status") == 0000000000000400 ]]
ok "runs as o365-relay with nothing but CAP_NET_BIND_SERVICE"

# ---- Trouble ------------------------------------------------------------------------------------

kill -9 "$pid"
until_holds another_pid_than "$pid"
send "after-kill"
ok "kill -9: started again"

pid=$(main_pid)
if (($((16#$(sed -n 's/^SigCgt:\t//p' "/proc/$pid/status"))) & 1)); then
    systemctl reload o365-relay
    send "after-reload"
    [[ $(main_pid) == "$pid" ]]
    ok "systemctl reload: the same process goes on"
else
    echo "trial: SKIPPED reload: this daemon does not catch SIGHUP"
fi

mkdir -p /etc/systemd/system/o365-relay.service.d
printf '[Service]\nWatchdogSec=6s\nRestartSec=1s\n' >/etc/systemd/system/o365-relay.service.d/trial.conf
systemctl daemon-reload
systemctl restart o365-relay
pid=$(main_pid)
sleep 10 # longer than the watchdog's patience: it must not bite a daemon that is well
[[ $(main_pid) == "$pid" ]]
kill -STOP "$pid"
until_holds another_pid_than "$pid"
journalctl --no-pager -u o365-relay | grep -q "Watchdog timeout"
send "after-watchdog"
ok "a stopped process is ended by the watchdog and started again; one that is well is left alone"
rm /etc/systemd/system/o365-relay.service.d/trial.conf

# ---- Sockets of systemd's -----------------------------------------------------------------------

systemctl stop o365-relay
cp /usr/share/o365-relay/no-capability.conf /etc/systemd/system/o365-relay.service.d/
systemctl daemon-reload
systemctl enable --quiet --now o365-relay.socket
systemctl start o365-relay
pid=$(main_pid)
[[ $(sed -n 's/^CapEff:\t//p' "/proc/$pid/status") == 0000000000000000 ]]
[[ $(sed -n 's/^CapBnd:\t//p' "/proc/$pid/status") == 0000000000000000 ]]
send "by-socket"
ok "o365-relay.socket: port 25 with no capability at all"

python3 load.py 25 8 >taken 2>counts &
load=$!
for _ in 1 2 3; do
    sleep 5
    systemctl restart o365-relay
done
wait "$load" || { cat counts; fail "load"; }
is_everything_there() {
    sed -n 's/^Subject: \(load-.*\)\r$/\1/p' /trial/saved/*.eml | sort -u >there
    [[ -z $(sort -u taken | comm -23 - there) ]]
}
until_holds is_everything_there
sed -n 's/^Subject: \(load-.*\)\r$/\1/p' saved/*.eml | sort | uniq -d >twice
ok "three restarts under load: $(head -n 1 counts); all arrived, $(wc -l <twice) of them twice"

printf '[Socket]\nListenStream=127.0.0.1:2525\n' >/trial/more.conf
mkdir -p /etc/systemd/system/o365-relay.socket.d
cp more.conf /etc/systemd/system/o365-relay.socket.d/
systemctl daemon-reload
systemctl stop o365-relay.service o365-relay.socket
systemctl start o365-relay.socket
systemctl start o365-relay.service 2>/dev/null && fail "started with a socket that no listener has"
[[ $(property ExecMainStatus) == 78 ]]
journalctl --no-pager -u o365-relay -n 20 | grep -q 'a socket at 127.0.0.1:2525 ("o365-relay.socket")'
ok "a socket that no listener has: 78, with the cure in the journal"
rm -r /etc/systemd/system/o365-relay.socket.d
systemctl daemon-reload
systemctl stop o365-relay.socket
systemctl reset-failed o365-relay.service || true
systemctl start o365-relay.socket o365-relay.service
send "by-socket-again"

# ---- Upgrade, removal, purge --------------------------------------------------------------------

pid=$(main_pid)
before=$(sha256sum /etc/o365-relay/config.toml)
install --force-confdef --force-confold -i later.deb
[[ $(sha256sum /etc/o365-relay/config.toml) == "$before" ]]
[[ $(stat -c '%a %U %G' /etc/o365-relay/config.toml) == "640 root o365-relay" ]]
until_holds another_pid_than "$pid"
systemctl --quiet is-active o365-relay.socket
send "after-upgrade"
ok "upgrade: restarted, configuration, its owner and its mode kept"

update-alternatives --quiet --install /usr/sbin/sendmail sendmail /usr/lib/o365-relay/sendmail 20
if o365-relay sendmail --help >/dev/null 2>&1; then
    printf 'Subject: by-sendmail\n\ntext\n' | /usr/sbin/sendmail -i somebody@example.com
    until_holds arrived "Subject: by-sendmail"
    ok "/usr/sbin/sendmail by update-alternatives"
else
    echo "trial: SKIPPED sendmail: this binary has no such command"
fi

install --remove o365-relay
! is_active
[[ ! -e /usr/bin/o365-relay && ! -e /usr/sbin/sendmail ]]
[[ -e /etc/o365-relay/config.toml && -e /var/lib/o365-relay/queue.db ]]
install -i later.deb
until_holds is_active
send "after-reinstall"
ok "removed: configuration and queue stay; installed again, it runs again"

systemctl stop tenant
o365-relay send --to somebody@example.com --subject "waits" >/dev/null
install --purge o365-relay
grep -q "mail still waits in /var/lib/o365-relay" said
grep -q "is kept; delete it if nobody wants it" said
[[ -e /var/lib/o365-relay/queue.db && ! -e /etc/o365-relay ]]
ok "purge does not delete mail that waits"

rm -rf /var/lib/o365-relay
install -i o365-relay.deb
install --purge o365-relay
# Made by this script.
rm -r /etc/default/o365-relay /etc/systemd/system/o365-relay.service.d
left=$(find / -xdev -name '*o365-relay*' ! -path '/trial/*' ! -path '/var/log/journal/*' ! -path '/proc/*')
[[ -z $left ]] || fail "purge leaves $left"
getent passwd o365-relay >/dev/null
# It fails where there is nothing to list.
units=$(systemctl list-unit-files --no-legend 'o365-relay*' || true)
[[ -z $units ]] || fail "purge leaves $units"
ok "purge leaves nothing but the user"
