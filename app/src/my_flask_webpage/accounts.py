"""Accounts of the internal area: login, logout, and the command ``flask user``."""

import ipaddress
import re
import secrets
import sys
import threading
from datetime import timedelta
from typing import TextIO
from urllib.parse import urlsplit

import click
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from flask import (
    Blueprint,
    Flask,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.cli import AppGroup
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user
from flask_wtf import FlaskForm
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from werkzeug.exceptions import HTTPException, TooManyRequests
from wtforms import PasswordField, StringField
from wtforms.validators import DataRequired, Length

from my_flask_webpage.database_errors import outage
from my_flask_webpage.extensions import db, login_manager
from my_flask_webpage.models import EMAIL_MAX_LENGTH, LoginAttempt, User, utc_now

ATTEMPTS_ALLOWED = 5
ATTEMPTS_WINDOW = timedelta(minutes=1)
PASSWORD_MIN_LENGTH = 12
PASSWORD_MAX_LENGTH = 1000
NEXT_MAX_LENGTH = 500

# One of the equivalent Argon2id settings that OWASP lists: 19 MiB, 2 passes, 1 lane.
# https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Verified when the user is unknown, so that the response takes as long as for a known user.
NOBODY = hasher.hash(secrets.token_urlsafe())
# One hash at a time in each process, so that many logins at once cannot use up the memory.
_hashing = threading.Lock()

blueprint = Blueprint("accounts", __name__)
commands = AppGroup("user", help="Accounts of the internal area.")


class LoginForm(FlaskForm):
    """The owner's e-mail address and password."""

    email = StringField("E-mail", validators=[DataRequired(), Length(max=EMAIL_MAX_LENGTH)])
    password = PasswordField(
        "Password", validators=[DataRequired(), Length(max=PASSWORD_MAX_LENGTH)]
    )


def init_app(app: Flask) -> None:
    """Bind Flask-Login to the application and add ``flask user``."""
    login_manager.init_app(app)
    login_manager.login_view = "accounts.login"
    login_manager.login_message = None
    app.cli.add_command(commands)


@login_manager.user_loader
def load_user(session_key: str) -> User | None:
    """Find the user of a session; None if the account is gone or the session has ended."""
    try:
        return db.session.scalar(select(User).filter_by(session_key=session_key))
    except SQLAlchemyError as error:
        db.session.rollback()
        if outage(error) is None:
            raise
        # The error page for an unavailable database asks for the user, too.
        return None


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Show the login form, or check a login; every failure gets the same response."""
    target = safe_target(request.args.get("next"))
    if current_user.is_authenticated:
        return redirect(target, code=303)
    form = LoginForm()
    if request.method != "POST":
        return render_template("accounts/login.html", form=form)
    count_attempt(client_network(request.remote_addr))
    user = check_password(form.email.data or "", form.password.data or "")
    if not form.validate() or user is None:
        current_app.logger.warning("failed login from %s", request.remote_addr)
        return render_template("accounts/login.html", form=form, refused=True), 400
    session.clear()  # nothing from before the login may count as the owner's
    session.permanent = True
    login_user(user)
    current_app.logger.info("login of user %d", user.id)
    return redirect(target, code=303)


@blueprint.post("/logout")
@login_required
def logout() -> ResponseReturnValue:
    """End all sessions of the user, so that a copied cookie becomes invalid."""
    # The session is stored in the cookie; only a new key invalidates it.
    current_user.session_key = secrets.token_hex()
    db.session.commit()
    logout_user()
    session.clear()
    flash("You are logged out, on all your devices.")
    return redirect(url_for("accounts.login"), code=303)


def safe_target(target: str | None) -> str:
    """Choose the page to go to after the login.

    Parameters
    ----------
    target : str or None
        The ``next`` parameter of the request, which is not trusted.

    Returns
    -------
    str
        `target` if it is the path of a page of this site, with an optional query; otherwise the
        path of the internal area.
    """
    default = url_for("internal.index")
    # One slash, then printable ASCII: no scheme, no host, and nothing that browsers read as a host.
    if not target or len(target) > NEXT_MAX_LENGTH or not re.fullmatch(r"/[!-\[\]-~]*", target):
        return default
    try:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc or target.startswith("//"):
            return default
        endpoint, _ = current_app.url_map.bind("localhost").match(parts.path, method="GET")
    except (HTTPException, ValueError):  # no such page, or urlsplit cannot parse the path
        return default
    if endpoint.split(".")[0] not in ("internal", "pages", "messages"):
        return default
    return target


def client_network(address: str | None) -> str:
    """Name the client to count requests for.

    Returns
    -------
    str
        The IP address; for IPv6 its first 64 bits, because one client usually has the whole /64
        (RFC 6177, section 2).
    """
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((int(ip), 64), strict=False).network_address) + "/64"


def count_attempt(address: str) -> None:
    """Count a login attempt in the database, and so for all processes together.

    Raises
    ------
    werkzeug.exceptions.TooManyRequests
        If this address made `ATTEMPTS_ALLOWED` attempts in the last `ATTEMPTS_WINDOW`.
    """
    now = utc_now()
    # Lock the address until the commit. SQLite has one writer at a time anyway, and the DELETE
    # below makes this transaction the writer.
    if db.engine.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:address, 0))")
        db.session.execute(lock, {"address": address})
    db.session.execute(delete(LoginAttempt).where(LoginAttempt.at <= now - ATTEMPTS_WINDOW))
    oldest, count = db.session.execute(
        select(func.min(LoginAttempt.at), func.count()).where(LoginAttempt.address == address)
    ).one()
    if count >= ATTEMPTS_ALLOWED:
        db.session.commit()
        wait = oldest + ATTEMPTS_WINDOW - now
        raise TooManyRequests(retry_after=max(1, round(wait.total_seconds())))
    db.session.add(LoginAttempt(address=address, at=now))
    db.session.commit()


def check_password(email: str, password: str) -> User | None:
    """Find the user with this password; an unknown user takes as long as a wrong password."""
    storable = "\x00" not in email
    user = db.session.scalar(select(User).filter_by(email=normal(email))) if storable else None
    stored = user.password_hash if user else NOBODY
    try:
        with _hashing:
            hasher.verify(stored, password[:PASSWORD_MAX_LENGTH])
    except (VerificationError, InvalidHashError):
        return None
    return user


def normal(email: str) -> str:
    """Normalise an e-mail address; upper and lower case mean the same mailbox."""
    return email.strip().lower()


password_file_option = click.option(
    "--password-file",
    type=click.File(encoding="utf-8"),
    help="File with the password, or - for standard input. By default, prompt for the password.",
)


@commands.command("add")
@click.argument("email")
@password_file_option
def add(email: str, password_file: TextIO | None) -> None:
    """Create an account for EMAIL."""
    email = normal(email)
    if not re.fullmatch(r"[^@\s\x00]+@[^@\s\x00]+", email) or len(email) > EMAIL_MAX_LENGTH:
        stop(f"{email!r} is not a valid e-mail address.")
    if db.session.scalar(select(User).filter_by(email=email)):
        stop(f"{email} already has an account. To change its password: flask user password {email}")
    hashed = hasher.hash(read_password(password_file))
    db.session.add(User(email=email, password_hash=hashed, session_key=secrets.token_hex()))
    try:
        db.session.commit()
    except IntegrityError:
        stop(f"{email} already has an account.")
    click.echo(f"{email} can log in now.")


@commands.command("password")
@click.argument("email")
@password_file_option
def change_password(email: str, password_file: TextIO | None) -> None:
    """Set a new password for EMAIL and end all its sessions."""
    user = find(email)
    user.password_hash = hasher.hash(read_password(password_file))
    user.session_key = secrets.token_hex()
    db.session.commit()
    click.echo(f"The password of {user.email} is changed, and all its sessions have ended.")


@commands.command("remove")
@click.argument("email")
def remove(email: str) -> None:
    """Remove the account of EMAIL and end its sessions."""
    user = find(email)
    db.session.delete(user)
    db.session.commit()
    click.echo(f"The account of {user.email} is removed.")


@commands.command("list")
def list_users() -> None:
    """List all accounts."""
    for user in db.session.scalars(select(User).order_by(User.email)):
        click.echo(user.email)


def find(email: str) -> User:
    """Find a user, or stop with an error message."""
    user = db.session.scalar(select(User).filter_by(email=normal(email)))
    if user is None:
        stop(f"{normal(email)} has no account.")
    return user


def read_password(file: TextIO | None) -> str:
    """Read a new password from a file or a prompt; stop if its length is not allowed."""
    if file:
        password = file.read().removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        stop("There is no terminal to prompt for the password; use --password-file.")
    if not PASSWORD_MIN_LENGTH <= len(password) <= PASSWORD_MAX_LENGTH:
        stop(f"A password must have at least {PASSWORD_MIN_LENGTH} characters.")
    return password


def stop(reason: str) -> None:
    """Print the reason and end the process with exit code 1."""
    click.echo(f"user: {reason}", err=True)
    sys.exit(1)
