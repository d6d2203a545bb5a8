"""What we change in libcurl's sources before build_deps.py builds them.

One thing: its printf writes byte by byte, and most of a request's head goes through it; that is a
sixth of all instructions of a small call. Strings are written in one piece instead where the output
is libcurl's dynamic buffer. What is written, its length limits and its errors are the same. The
system's libcurl, which an sdist uses, does without.

A release in which a piece of the text is not found exactly once stops the build: look there
whether the change is still needed.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["patch"]

PIECES = """static int alloc_addbyter(unsigned char outc, void *f);

/* llmcurl: many bytes at once where the output is a dynbuf. TRUE: failed. */
static bool out_bytes(void *userp, int (*stream)(unsigned char, void *),
                      const char *str, size_t len, int *donep)
{
  if(stream == alloc_addbyter && len) {
    struct asprintf *infop = userp;
    CURLcode result = curlx_dyn_addn(infop->b, str, len);
    if(result) {
      infop->merr = result == CURLE_TOO_LARGE ? MERR_TOO_LARGE : MERR_MEM;
      return TRUE;
    }
    *donep += (int)len;
    return FALSE;
  }
  for(; len; len--)
    OUTCHAR(*str++);
  return FALSE;
}

static bool out_string("""

CHANGES = (
    ("static bool out_string(", PIECES),
    (
        """  for(; len && *str; len--)
    OUTCHAR(*str++);
  if(flags & FLAGS_LEFT)""",
        """  if(out_bytes(userp, stream, str, strnlen(str, len), donep))
    return TRUE;
  if(flags & FLAGS_LEFT)""",
    ),
    (
        """      const char *str = optr->start;
      for(; outlen && *str; outlen--) {
        if(stream(*str++, userp))
          return done;
        done++;
      }
""",
        """      if(out_bytes(userp, stream, optr->start, strnlen(optr->start, outlen), &done))
        return done;
""",
    ),
)


def patch(source: Path) -> None:
    """Changes the unpacked libcurl in `source`."""
    file = source / "lib" / "mprintf.c"
    text = file.read_text()
    for before, after in CHANGES:
        if text.count(before) != 1:
            raise SystemExit(
                f"deps: {file} is not as scripts/patch_curl.py expects it: {before[:60]!r}"
            )
        text = text.replace(before, after)
    file.write_text(text)
