"""A Postfix of our own: configuration, queue and data below one directory, on a port of its own, in the foreground.

The Postfix of the system, if there is one that runs, is left alone. Nothing is written to a log: without a log
daemon Postfix loses no time with it, while the relay writes its lines to a file.
"""

import os
import subprocess
from pathlib import Path

import packages
import relay
from processes import children, cpu_seconds, pss_kib

SASL_SOURCE = Path(__file__).with_name("xoauth2.c")
DAEMONS = Path("/usr/lib/postfix/sbin")

# What is the same in all of them. `static:HOLD` puts mail aside once it is durable: no queue manager works on it, which
# is the least that accepting can cost Postfix.
MAIN = """
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.bench.example
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
biff = no
message_size_limit = 36700160
mailbox_size_limit = 0
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_PRELOAD SHIM_SYNC_DELAY_US SASL_PATH
"""

MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
tlsproxy  unix  -       -       n       -       0       tlsproxy
"""

HELD = "smtpd_client_restrictions = check_client_access static:HOLD\n"
# Mail is accepted, looked at by the queue manager, and put into the deferred queue.
DEFERRED = "relayhost = [127.0.0.1]:1\ndefer_transports = smtp\n"


def to_sink(port):
    """Relays in plain to a sink on loopback."""
    return f"relayhost = [127.0.0.1]:{port}\n"


def to_sandbox(directory, office365, token, connections):
    """STARTTLS with a certificate that is looked at, XOAUTH2 by the Cyrus SASL plugin, sessions and connections kept."""
    directory.mkdir(parents=True, exist_ok=True)
    passwords = directory / "passwords"
    host = f"[localhost]:{office365['smtp_port']}"
    passwords.write_text(f"{host} {office365['mailbox']}:{token}\n")
    passwords.chmod(0o600)
    authority = directory / "ca.pem"
    authority.write_bytes(Path(office365["ca_file"]).read_bytes())
    return f"""
relayhost = {host}
smtp_host_lookup = native
smtp_tls_security_level = verify
smtp_tls_CAfile = {authority}
smtp_tls_session_cache_database = btree:${{data_directory}}/smtp_scache
smtp_tls_connection_reuse = {os.environ.get("BENCH_TLS_REUSE", "yes")}
smtp_sasl_auth_enable = yes
smtp_sasl_mechanism_filter = xoauth2
smtp_sasl_password_maps = texthash:{passwords}
smtp_sasl_security_options =
smtp_sasl_tls_security_options =
smtp_destination_concurrency_limit = {connections}
"""


def sasl_plugin(workplace):
    """Compiles the XOAUTH2 plugin and returns the words that put it before Postfix."""
    packages.need({"gcc": "gcc", "/usr/include/sasl/saslplug.h": "libsasl2-dev"})
    directory = workplace.make("sasl")
    command = ["gcc", "-shared", "-fPIC", "-O2", "-w", "-o", directory / "libxoauth2.so", SASL_SOURCE]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise relay.Fault(f"gcc: {done.stderr[-1000:]}")
    return ["env", f"SASL_PATH={directory}"]


class Postfix(relay.Process):
    """Ready to take mail when the constructor returns. `directory` has to be one that the user postfix can reach."""

    def __init__(self, workplace, directory, settings, *, name="postfix", wrapper=()):
        self.directory = directory
        self.queue = directory / "queue"
        (self.smtp_port,) = relay.free_ports(1)
        self.configuration = directory / "etc"
        for path, mode in ((self.configuration, 0o755), (self.queue, 0o755), (directory / "data", 0o700)):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
        subprocess.run(["chown", "postfix", directory / "data"], check=True)
        main = MAIN.format(queue=self.queue, data=directory / "data") + settings
        (self.configuration / "main.cf").write_text(main)
        (self.configuration / "master.cf").write_text(MASTER.format(port=self.smtp_port))
        # What `postfix start` does; its shell would stand between us and the master.
        check = subprocess.run(["postfix", "-c", self.configuration, "check"], capture_output=True, text=True)
        if check.returncode != 0:
            raise relay.Fault(f"postfix check: {check.stderr[-2000:]}")
        command = [*wrapper, "env", f"MAIL_CONFIG={self.configuration}", str(DAEMONS / "master"), "-s"]
        super().__init__(name, command, workplace)
        try:
            self.wait_for_greeting()
        except BaseException:
            self.stop()
            raise

    def wait_for_greeting(self):
        relay.wait_until("220 greeting of Postfix", lambda: relay.greets(self.smtp_port), relay.READY_SECONDS, [self])

    def cpu_seconds(self):
        """Processor seconds of the master and all of its children, those included that have ended."""
        return cpu_seconds(self.pid, reaped=True) + sum(cpu_seconds(child) for child in children(self.pid))

    def resident_kib(self):
        """Each page counted once, however many processes share it (PSS)."""
        return sum(pss_kib(process) for process in (self.pid, *children(self.pid)))

    def queue_is_empty(self):
        """Whether nothing is left to be relayed."""
        return not any(has_file(self.queue / name) for name in ("incoming", "active", "deferred", "maildrop"))


def has_file(directory):
    return any(files for _, _, files in os.walk(directory))
