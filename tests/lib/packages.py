"""Installs what an acceptance script needs and does not find: Debian packages, and npm packages in a directory.

Downloads are kept in target/acceptance/tools and nowhere else. No daemon is started: services are refused by a
policy-rc.d while apt runs, and Postfix, of which only smtp-source is used, is installed without a configuration.
"""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from relay import ACCEPTANCE, Fault

TOOLS = ACCEPTANCE / "tools"
POLICY = Path("/usr/sbin/policy-rc.d")


def need(commands):
    """Installs the packages whose command is missing; `commands` maps command to Debian package."""
    missing = sorted({package for command, package in commands.items() if not shutil.which(command)})
    if missing:
        install(missing)
    still = [command for command in commands if not shutil.which(command)]
    if still:
        raise Fault(f"still not there after installing {', '.join(missing)}: {', '.join(still)}")


def install(packages):
    print(f"installing {', '.join(packages)}")
    if os.geteuid() != 0:
        raise Fault(f"not root; install these by hand: {' '.join(packages)}")
    archives = TOOLS / "apt"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "install", "-y", "--no-install-recommends", "--no-remove"]
    command += ["-o", f"Dir::Cache::archives={archives}", *packages]
    if "postfix" in packages:
        quietly(["debconf-set-selections"], stdin="postfix postfix/main_mailer_type select No configuration\n")
    with services_refused():
        if subprocess.run(command, env=apt_environment(), capture_output=True).returncode != 0:
            quietly(["apt-get", "update"])
            quietly(command)


def works(command):
    """Whether a command can be run and ends with 0."""
    return subprocess.run(command, capture_output=True).returncode == 0


def apt_environment():
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def quietly(command, stdin=None):
    """Runs a command; its output is shown only if it fails."""
    done = subprocess.run(
        command, env=apt_environment(), input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        raise Fault(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")


@contextmanager
def services_refused():
    """A policy-rc.d that forbids service starts; one that is there already is left alone."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def need_npm(package):
    """Installs name@version below target/acceptance/tools and returns the node_modules directory."""
    name, version = package.rsplit("@", 1)
    prefix = TOOLS / f"{name}-{version}"
    modules = prefix / "node_modules"
    if not (modules / name / "package.json").exists():
        print(f"installing {package} (npm)")
        prefix.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(prefix), "--cache", str(TOOLS / "npm-cache")]
        quietly([*command, "--no-audit", "--no-fund", "--ignore-scripts", package])
    return modules
