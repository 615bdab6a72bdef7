"""Go, Java and .NET: a small program for each, compiled when the script starts."""

import json
import shutil

import packages
from relay import REVERSE_PATH, Fault

from .driver import PROGRAMS, Call, Driver, attachment_file, peer_environment, program, raw_file

BUILT = packages.TOOLS / "built"
DOTNET_WHEEL = "dotnetcore2==3.1.23"
DOTNET_APP = BUILT / "dotnet-core"
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


def build_dotnet_core():
    """Microsoft's runtime, which a Python package brings along, runs what Mono's compiler has made."""
    build_dotnet()
    dotnet = packages.need_wheel(DOTNET_WHEEL) / "dotnetcore2" / "bin" / "dotnet"
    dotnet.chmod(0o755)
    DOTNET_APP.mkdir(exist_ok=True)
    shutil.copy(BUILT / "SystemNetMail.exe", DOTNET_APP / "SystemNetMail.dll")
    framework = {"name": "Microsoft.NETCore.App", "version": "3.1.0"}
    settings = {"runtimeOptions": {"framework": framework}}
    (DOTNET_APP / "SystemNetMail.runtimeconfig.json").write_text(json.dumps(settings))


def dotnet_core(message, peer, directory):
    dotnet = packages.need_wheel(DOTNET_WHEEL) / "dotnetcore2" / "bin" / "dotnet"
    call = system_net_mail([str(dotnet), "exec", str(DOTNET_APP / "SystemNetMail.dll")], message, peer, directory)
    call.environment["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1"
    return call


def mono(message, peer, directory):
    return system_net_mail(["mono", str(BUILT / "SystemNetMail.exe")], message, peer, directory)


def system_net_mail(command, message, peer, directory):
    environment = peer_environment(message, peer)
    if message.attachment:
        environment["SMTP_ATTACHMENT"] = attachment_file(message, directory)
    return Call([*command, raw_file(message, directory), REVERSE_PATH, *message.forward_paths], environment=environment)


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
        ".NET SmtpClient",
        "Windows applications and services, PowerShell's Send-MailMessage",
        dotnet_core,
        {"mcs": "mono-mcs"},
        prepare=build_dotnet_core,
        cannot={"starttls": "this runtime wants OpenSSL 1.1", "implicit": "it knows STARTTLS only"},
        fresh=("Date", "Content-Type"),
    ),
    Driver(
        "Mono SmtpClient",
        ".NET applications on Linux",
        mono,
        {"mcs": "mono-mcs", "mono": "mono-runtime"},
        prepare=build_dotnet,
        cannot={"starttls": "Mono's offers TLS 1.0 at most", "implicit": "it knows STARTTLS only"},
        fresh=("Date", "Content-Type"),
    ),
]
