"""Go, Java and .NET: a small program for each, compiled when the script starts."""

import packages
from relay import REVERSE_PATH, Fault

from .driver import PROGRAMS, Call, Driver, attachment_file, peer_environment, program, raw_file

BUILT = packages.TOOLS / "built"
JARS = ("/usr/share/java/jakarta-mail.jar", "/usr/share/java/jakarta-activation.jar")
CLASS_PATH = ":".join([*JARS, str(BUILT)])


def build(source, product, command, environment=None):
    """Compiles one of our programs unless the product is newer than it."""
    source, product = PROGRAMS / source, BUILT / product
    if product.exists() and product.stat().st_mtime > source.stat().st_mtime:
        return
    print(f"compiling {source.name}")
    BUILT.mkdir(parents=True, exist_ok=True)
    words = [f"{name}={value}" for name, value in (environment or {}).items()]
    packages.quietly(["env", *words, *command, str(source)])
    if not product.exists():
        raise Fault(f"{command[0]} made no {product}")


def build_go():
    environment = {"GO111MODULE": "off", "GOCACHE": BUILT / "go-cache", "GOPATH": BUILT / "go", "GOTOOLCHAIN": "local"}
    build("net_smtp.go", "net_smtp_go", ["go", "build", "-o", str(BUILT / "net_smtp_go")], environment)


def build_java():
    build("JakartaMail.java", "JakartaMail.class", ["javac", "-cp", CLASS_PATH, "-d", str(BUILT)])


def build_dotnet():
    command = ["mcs", "-warn:0", f"-out:{BUILT / 'SystemNetMail.exe'}"]
    build("SystemNetMail.cs", "SystemNetMail.exe", command)


def system_net_mail(message, peer, directory):
    environment = peer_environment(message, peer)
    if message.attachment:
        environment["SMTP_ATTACHMENT"] = attachment_file(message, directory)
    command = ["mono", str(BUILT / "SystemNetMail.exe"), raw_file(message, directory), REVERSE_PATH]
    return Call([*command, *message.forward_paths], environment=environment)


# A short-lived program: no time for the second compiler.
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", CLASS_PATH, "JakartaMail"]

DRIVERS = [
    Driver(
        "Go net/smtp",
        "Alertmanager, Gitea and other programs in Go",
        program(str(BUILT / "net_smtp_go")),
        {"go": "golang-go"},
        prepare=build_go,
    ),
    Driver(
        "Jakarta Mail",
        "Jenkins, Jira, appliances in Java",
        program(*JAVA),
        {
            "javac": "openjdk-17-jdk-headless",
            JARS[0]: "libjakarta-mail-java",
            JARS[1]: "libjakarta-activation-java",
        },
        prepare=build_java,
    ),
    Driver(
        ".NET System.Net.Mail",
        "Windows applications (as Mono has it)",
        system_net_mail,
        {"mcs": "mono-mcs", "mono": "mono-runtime"},
        prepare=build_dotnet,
        cannot={"starttls": "Mono's offers TLS 1.0 at most", "implicit": "it knows STARTTLS only"},
        fresh=("Date", "Content-Type"),
    ),
]
