"""Who and what a Slack export speaks of: the users, channels, groups and direct messages its listings name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from memory_pipeline.importers.decoding import UndecodableError, decode
from memory_pipeline.importers.files import DamagedFileError
from memory_pipeline.importers.json_array import BrokenJsonError, Oversized, split_array
from memory_pipeline.importers.options import reject
from memory_pipeline.model.records import Rejection
from memory_pipeline.model.validation import Problem

USER_FILES = ("users.json", "org_users.json")
LISTINGS = ("channels.json", "groups.json", "mpims.json", "dms.json")

_REMEDY = "mend the entry or export the workspace again; its messages are read, with ids in place of names"


class _Profile(msgspec.Struct):
    real_name: str | None = None
    display_name: str | None = None
    email: str | None = None


class _User(msgspec.Struct):
    id: str
    name: str | None = None
    real_name: str | None = None
    is_bot: bool | None = None
    profile: _Profile | None = None


class _Channel(msgspec.Struct):
    id: str
    name: str | None = None
    members: list[str] | None = None


@dataclass(frozen=True)
class Member:
    name: str
    email: str | None
    is_bot: bool


@dataclass(frozen=True)
class Channel:
    id: str
    title: str


@dataclass
class Directory:
    """Names by id, and channels by the folder that holds their days."""

    users: dict[str, Member] = field(default_factory=dict)
    user_names: dict[str, str] = field(default_factory=dict)
    channel_names: dict[str, str] = field(default_factory=dict)
    by_folder: dict[str, Channel] = field(default_factory=dict)

    def channel_of(self, folder: str) -> Channel:
        """The channel of a folder; one that no listing names goes by the folder's own name."""
        return self.by_folder.get(folder) or Channel(id=folder, title=f"#{folder}")

    def email_of(self, user: str | None) -> str | None:
        """The address of a user by id; None for a user that no listing names, or names without one."""
        member = self.users.get(user or "")
        return None if member is None else member.email

    def add_user(self, user: _User) -> None:
        profile = user.profile or _Profile()
        name = profile.real_name or user.real_name or profile.display_name or user.name or user.id
        is_bot = bool(user.is_bot) or user.id == "USLACKBOT"
        self.users[user.id] = Member(name=name, email=profile.email or None, is_bot=is_bot)
        self.user_names[user.id] = name

    def add_channel(self, channel: _Channel, listing: str) -> None:
        if listing == "dms.json" or not channel.name:
            names = [self.user_names.get(member, member) for member in channel.members or ()]
            self.by_folder[channel.id] = Channel(id=channel.id, title=", ".join(names) or channel.id)
        else:
            self.channel_names[channel.id] = channel.name
            self.by_folder[channel.name] = Channel(id=channel.id, title=f"#{channel.name}")


def read_directory(directory: Directory, name: str, blocks: Iterable[bytes]) -> Iterator[Rejection]:
    """Add the entries of the listing `name` to `directory`; yield rejections of those that can't be read."""
    number = 0
    try:
        for number, element in enumerate(split_array(blocks), 1):
            origin = f"{name}, entry {number}"
            if isinstance(element, Oversized):
                yield reject(origin, Problem("the entry is too large to hold", _REMEDY))
                continue
            try:
                if name in USER_FILES:
                    directory.add_user(decode(element, _User))
                else:
                    directory.add_channel(decode(element, _Channel), name)
            except UndecodableError as error:
                yield reject(origin, Problem(f"the entry can't be read: {error}", _REMEDY))
    except (BrokenJsonError, DamagedFileError) as error:
        yield reject(f"{name}, after entry {number}", Problem(f"the rest of the file can't be read: {error}", _REMEDY))
