"""Secrets in settings, command lines and texts: found by their names and by their form, and replaced."""

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

REMOVED = "<removed: give it by the environment>"
# Any of these words makes a name that of a secret.
WORDS = frozenset(
    {"accesskey", "accesstoken", "accountkey", "apikey", "auth", "authorization", "authtoken", "bearer"}
    | {"connectionstring", "cookie", "cookies", "credential", "credentials", "oauth", "passcode", "passphrase"}
    | {"passwd", "password", "passwords", "privatekey", "pwd", "sastoken", "secret", "secretkey", "secrets"}
)
# A key of one of these kinds is a secret; other keys name things.
KEYS = frozenset(
    {"access", "account", "api", "auth", "encryption", "license", "master", "private", "service", "shared", "signing"}
    | {"ssh", "storage", "subscription"}
)
PAIRS = frozenset({("connection", "string"), ("conn", "str"), *((kind, "key") for kind in KEYS)})
# A token of one of these kinds is one of text.
OF_TEXT = frozenset(
    {"additional", "bos", "cls", "decoder", "each", "end", "eos", "first", "image", "last", "mask", "max", "middle"}
    | {"min", "next", "num", "pad", "per", "prefix", "sep", "special", "start", "stop", "suffix", "unk"}
)
# In options of this name every key is one of a store, as of s3fs.
STORES = frozenset({"client_kwargs", "headers", "storage_options"})
# The forms of known services, of JSON web tokens, and of PEM; nothing before them may belong to the same word.
FORMS = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"
    r"|(?<![\w-])(?:hf_[A-Za-z0-9]{20,}|A[KS]IA[A-Z0-9]{16}(?!\w)|sk-(?=[\w-]*\d)[\w-]{16,}|gh[pousr]_\w{16,}"
    r"|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|AIza[\w-]{30,}|pypi-[\w-]{16,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)
USER_OF_URL = re.compile(r"(?<=://)(?:(?<=http://)|(?<=https://))[^/\s@?#]+@|(?<=://)[^/\s@:?#]*:[^/\s@?#]*@")
IN_QUERY = re.compile(
    r"([?&](?:token|sig|signature|key|x-amz-[a-z-]+|x-goog-[a-z-]+)=)(?!<removed:)[^&#\s\"']+", re.IGNORECASE
)
ASSIGNED = re.compile(
    r"(?<![\w.-])(?P<name>[A-Za-z_][\w.-]*)(?P<sign>[\"']?\s*[=:]\s*)"
    r"(?P<value><removed:[^>]*>|\"[^\"]*\"|'[^']*'|(?:(?:Bearer|Basic|Token)\s+)?[^\s\"'&,;{}\[\]]+)"
)


def is_removed(value: Any) -> bool:
    """Whether a value is, or holds, what stands in the place of a secret, and so must not be sent to anybody."""
    return isinstance(value, str) and REMOVED in value


def without_removed(value: Any) -> Any:
    """Nested plain values without the options whose secret was removed, or that have nothing else in them.

    >>> without_removed({"split": "train", "token": REMOVED})
    {'split': 'train'}
    """
    if isinstance(value, dict):
        clean = {key: without_removed(entry) for key, entry in value.items() if not is_removed(entry)}
        return {key: entry for key, entry in clean.items() if entry or not value[key]}
    if isinstance(value, (list, tuple)):
        return [without_removed(entry) for entry in value if not is_removed(entry)]
    return value


def redacted(value: Any) -> Any:
    """Nested plain values with `REMOVED` in the place of every secret.

    A secret is known by the name of its option (`token`, `password`, `api_key`, every key below `storage_options`), or
    by its form (tokens of known services, JSON web tokens, private keys, a password in a URL).

    >>> redacted({"split": "train", "token": "abc"})
    {'split': 'train', 'token': '<removed: give it by the environment>'}
    """
    return _redacted(value, (), [])


def options_with_secrets(value: Any) -> list[str]:
    """The options, by dotted name, in which `redacted` replaces something."""
    found: list[str] = []
    _redacted(value, (), found)
    return list(dict.fromkeys(found))


def redacted_words(words: Sequence[str]) -> list[str]:
    """The words of a command line without secrets: `--name=value`, `--name value`, and JSON in either."""
    found: list[str] = []
    option: tuple[str, ...] = ()
    for word in words:
        name, sign, value = word.partition("=")
        if word.startswith("--") and sign:
            found.append(f"{name}={_redacted(value, _parts(name), [])}")
        else:
            found.append(_redacted(word, () if word.startswith("--") else option, []))
        option = _parts(name) if word.startswith("--") and not sign else ()
    return found


def redacted_text(text: str) -> str:
    """A text without secrets, whether it is JSON, a URL, a connection string or prose."""
    return str(_redacted(text, (), []))


def is_secret_name(name: str, parents: Sequence[str] = ()) -> bool:
    """Whether an option of this name, below the options `parents`, holds a secret.

    >>> [is_secret_name(name) for name in ("hf_token", "accessKey", "prepend_bos_token", "max_tokens")]
    [True, True, False, False]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if not words:
        return False
    is_token = words[-1] == "token" and not OF_TEXT.intersection(words[-2:-1])
    is_of_store = not STORES.isdisjoint(parents) and "key" in words
    return is_token or is_of_store or not WORDS.isdisjoint(words) or not PAIRS.isdisjoint(pairwise(words))


def _redacted(value: Any, parts: tuple[str, ...], found: list[str]) -> Any:
    is_part = isinstance(value, dict) and "class_path" in value  # of a name that the user chose, as of a member
    if parts and not is_part and is_secret_name(parts[-1], parts[:-1]) and _is_any(value):
        if not is_removed(value):
            found.append(".".join(parts))
        return REMOVED
    if isinstance(value, dict):
        return {key: _redacted(entry, (*parts, *_parts(str(key))), found) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(entry, parts, found) for entry in value]
    if not isinstance(value, str):
        return value
    text = _of_json(value, parts) or _of_text(value, parts)
    if text != value:
        found.append(".".join(parts))
    return text


def _is_any(value: Any) -> bool:
    """Whether there is something to hide: a number can be a password, and True only says that there is one."""
    return value is not None and value != "" and not isinstance(value, bool)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(name.lstrip("-").split("."))


def _of_json(text: str, parts: tuple[str, ...]) -> str | None:
    """JSON in a text without secrets, as it was where it has none; None where it is no JSON."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        content = json.loads(text)
        clean = _redacted(content, parts, [])
    except (ValueError, RecursionError):
        return None
    return text if clean == content else json.dumps(clean)


def _of_text(text: str, parts: tuple[str, ...]) -> str:
    parents = (*parts, *(name for name in STORES if name in text))

    def hide(found: re.Match[str]) -> str:
        name = found["name"].split(".")
        if is_removed(found["value"]) or not is_secret_name(name[-1], (*parents, *name[:-1])):
            return found[0]
        return f"{found['name']}{found['sign']}{REMOVED}"

    text = FORMS.sub(REMOVED, text)
    text = USER_OF_URL.sub(f"{REMOVED}@", text)
    text = IN_QUERY.sub(rf"\1{REMOVED}", text)
    return ASSIGNED.sub(hide, text)
