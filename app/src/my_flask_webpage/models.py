"""The database models."""

from datetime import UTC, datetime

from flask_login import UserMixin
from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship, validates

from my_flask_webpage.extensions import db

NAME_MAX_LENGTH = 80
BODY_MAX_LENGTH = 1000
SLUG_MAX_LENGTH = 80
URL_MAX_LENGTH = 500
CAPTION_MAX_LENGTH = 300
EMAIL_MAX_LENGTH = 254  # RFC 5321, section 4.5.3.1.3, less the two angle brackets


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC. SQLite stores no time zone, so it is attached again on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; a time without a time zone is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime must have a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Attach or convert to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Kept:
    """Columns that decide whether the JSON files or the internal area control a row.

    Attributes
    ----------
    from_file : bool
        Whether the row is or was in a JSON file; `source` is its name there.
    edited : bool
        Whether the internal area created, changed or hid it; `init_db` then leaves it unchanged.
    moved : bool
        Whether the internal area chose its position.
    hidden : bool
        Whether it is hidden from visitors, because it was removed from the file or in the internal
        area. The row stays, so that the file cannot restore what the owner removed.
    """

    edited: Mapped[bool] = mapped_column(default=False, server_default=false())
    moved: Mapped[bool] = mapped_column(default=False, server_default=false())
    hidden: Mapped[bool] = mapped_column(default=False, server_default=false())

    source: Mapped[str | None]

    @property
    def from_file(self) -> bool:
        """Whether the row is or was in a JSON file."""
        return self.source is not None


class Project(Kept, db.Model):
    """A project of the portfolio; its URL contains `slug`."""

    __tablename__ = "project"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(SLUG_MAX_LENGTH), unique=True)
    # Slug in ``resource/projects.json``, unaffected by edits; None if the row is not from there.
    source: Mapped[str | None] = mapped_column(String(SLUG_MAX_LENGTH), unique=True, index=True)
    title: Mapped[str] = mapped_column(String(120))
    period: Mapped[str] = mapped_column(String(40))
    summary: Mapped[str] = mapped_column(Text)
    # Paragraphs, separated by empty lines.
    text: Mapped[str] = mapped_column(Text, default="", server_default="")
    # Each link has the keys `label` and `url`.
    links: Mapped[list[dict[str, str]]] = mapped_column(JSON, default=list, server_default="[]")
    # The first URL in `links`, for releases older than `links`: one may still serve, or come back.
    link: Mapped[str] = mapped_column(String(URL_MAX_LENGTH), default="", server_default="")
    highlighted: Mapped[bool] = mapped_column(default=False, server_default=false())
    position: Mapped[int]

    images: Mapped[list["Image"]] = relationship(
        back_populates="project",
        cascade="all, delete-orphan",
        order_by="(Image.position, Image.id)",
    )

    @validates("links")
    def keep_link(self, key: str, links: list[dict[str, str]]) -> list[dict[str, str]]:
        """Store the first URL in `link`, where older releases read it."""
        self.link = links[0]["url"] if links else ""
        return links

    @property
    def gallery(self) -> list["Image"]:
        """The pictures that visitors see."""
        return [image for image in self.images if not image.hidden]


class Image(Kept, db.Model):
    """A picture in a project's gallery; its files in the media folder are named after `digest`."""

    __tablename__ = "image"
    __table_args__ = (UniqueConstraint("project_id", "source"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(
        ForeignKey("project.id", ondelete="CASCADE"), index=True
    )
    # File name in ``resource/images/``; None for an upload.
    source: Mapped[str | None] = mapped_column(String(120))
    digest: Mapped[str] = mapped_column(String(64), index=True)
    # Size of the largest file in pixels; `widths` has the widths of all files.
    width: Mapped[int]
    height: Mapped[int]
    widths: Mapped[list[int]] = mapped_column(JSON)
    # What the picture shows, for people who cannot see it.
    alt: Mapped[str] = mapped_column(String(CAPTION_MAX_LENGTH))
    caption: Mapped[str] = mapped_column(String(CAPTION_MAX_LENGTH), default="")
    credit: Mapped[str] = mapped_column(String(CAPTION_MAX_LENGTH), default="")
    position: Mapped[int]

    project: Mapped[Project] = relationship(back_populates="images")


class User(UserMixin, db.Model):
    """An account of the internal area."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(EMAIL_MAX_LENGTH), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    # Identifies the user in sessions. A new password or a logout changes the key, which ends all
    # sessions.
    # https://flask-login.readthedocs.io/en/latest/#alternative-tokens
    session_key: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)

    def get_id(self) -> str:
        """Return the key that Flask-Login stores in the session."""
        return self.session_key


class LoginAttempt(db.Model):
    """A login attempt, stored for as long as it counts against its address."""

    __tablename__ = "login_attempt"
    __table_args__ = (Index("ix_login_attempt_address_at", "address", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class Message(db.Model):
    """A visitor's message."""

    __tablename__ = "message"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_MAX_LENGTH))
    body: Mapped[str] = mapped_column(String(BODY_MAX_LENGTH))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class MessageSender(db.Model):
    """The sender of a recent message, stored for as long as it counts against the limits."""

    __tablename__ = "message_sender"
    __table_args__ = (Index("ix_message_sender_sender_at", "sender", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    # A keyed hash of the address, which cannot be computed without the key.
    sender: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
