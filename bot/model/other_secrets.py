"""Recognizes secrets of other services by their published prefixes, so that none is sent or stored. Pure.

An older token of Cloudflare's is any 40 of `A-Za-z0-9_-`, so one may begin like another service's secret by chance. A
prefix that is likely by chance (`sk-`: one in 262,144) counts only with another length or alphabet. A string as long as
an older token is refused for a prefix with a chance below one in a billion, or for the whole shape if the other
service's secrets are also 40 long (`ghp_`, `npm_`).
"""

import re
from typing import Final

_NO_OLDER_TOKEN: Final = r"(?![A-Za-z0-9_-]{40}\Z)"  # noqa: S105 - a pattern

_SHAPES: Final = (
    ("a Slack token", r"xox[a-z][.-].+|(?:xapp|xwfp)-.+"),
    ("an AWS access key ID", r"(?:AKIA|ASIA)[A-Z0-9]{16}"),
    ("an AWS secret access key", r"(?=[^+/]*[+/])[A-Za-z0-9+/]{40}"),
    ("a GitHub token", rf"gh[pousr]_[A-Za-z0-9]{{36}}|{_NO_OLDER_TOKEN}gh[pousr]_.+|github_pat_.+"),
    ("a GitLab token", r"gl(?:pat|ptt|dt|rt|rtr|cbt|ft|soat|agent|imt|oas|ffct)-.+"),
    ("a JSON Web Token, or a token of cloudflared", rf"{_NO_OLDER_TOKEN}eyJ[A-Za-z0-9_-]+.*"),
    ("a key or certificate in PEM", r"(?s)-----BEGIN.*"),
    ("an API key of OpenAI, Anthropic or the like", rf"sk-(?:ant|proj|svcacct|or)-.+|{_NO_OLDER_TOKEN}sk-.+"),
    ("a Stripe key", r"[rsp]k_(?:live|test)_.+|whsec_.+"),
    ("a Google key", r"AIza[A-Za-z0-9_-]{35}|ya29\..+|GOCSPX-.+"),
    ("an npm token", rf"npm_[A-Za-z0-9]{{36}}|{_NO_OLDER_TOKEN}npm_.+"),
    ("a PyPI token", r"pypi-.+"),
    ("a Hugging Face token", rf"{_NO_OLDER_TOKEN}hf_.+"),
    ("a DigitalOcean token", r"do[opr]_v1_.+"),
    ("a SendGrid key", r"SG\..+"),
    ("a Docker token", r"dckr_(?:pat|oat)_.+"),
    ("a Databricks token", r"dapi[0-9a-f]{32}(?:-\d)?"),
    ("a Vault token", r"hv[sbr]\..+"),
    ("a Grafana token", r"gl(?:sa|c)_.+"),
    ("an Atlassian token", r"ATATT3.+"),
    ("a Shopify token", r"shp(?:at|ca|pa|ss)_.+"),
    ("a Cloudflare Origin CA key", r"v1\.0-.+"),
    ("a Cloudflare Access service token", r"[0-9a-f]{32}\.access"),
)
_KINDS: Final = tuple((name, re.compile(shape)) for name, shape in _SHAPES)

_ANYWHERE: Final = re.compile(  # those that cannot be a bucket name, an id or a word
    r"(?<![A-Za-z0-9_-])(?:"
    r"xox[a-z](?:\.xox[a-z])?-(?=[a-z-]*[A-Z0-9])[A-Za-z0-9-]{10,}|(?:xapp|xwfp)-(?=[a-z-]*[A-Z0-9])[A-Za-z0-9-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9_-])"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-(?=[a-z0-9-]*[A-Z_.])[A-Za-z0-9_.-]{16,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|sk-(?:ant|proj)-(?=[a-z0-9-]*[A-Z_])[A-Za-z0-9_-]{16,}|AIza[A-Za-z0-9_-]{35}|npm_[A-Za-z0-9]{36}"
    r"|pypi-AgE[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{30,}|dop_v1_[0-9a-f]{40,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]+)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:(?!-----END)(?s:.))*(?:-----END [A-Z ]*-----)?"
)
_SHORTEST: Final = 16
_SIGNS: Final = (
    *("xox", "xapp-", "xwfp-", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "eyJ"),
    *("sk-", "AIza", "npm_", "pypi-", "hf_", "dop_v1_", "SG.", "-----BEGIN"),
)
"""Substrings of the shapes, cheaper to search for; hardly any text from Slack has one."""


def name_other_secret(text: str) -> str:
    """Return what it looks like, with its article, or ""; nothing else about it is ever shown."""
    return next((name for name, shape in _KINDS if shape.fullmatch(text)), "")


def mask_other_secrets(text: str, mask: str) -> str:
    """Mask the secrets of other services in a text that should contain none."""
    if len(text) < _SHORTEST or not any(sign in text for sign in _SIGNS):
        return text
    return _ANYWHERE.sub(mask, text)
