"""The projects that the edits of CI are made to; each holds several constructs in which a reading may go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.oracle.edits import UNLISTED, with_unused_stage
from tests.oracle.project import File, Project

__all__ = ["subjects"]

_STAGES = """\
# a comment
ARG BASE
ARG A=a
FROM ${BASE} AS one
ARG A
ENV E="x $A"
RUN echo "$E" > /one && echo 'x <<E' >> /one
FROM ${BASE} AS two
# another
RUN --mount=type=bind,"from=one",target=/m \\
    --mount=type=bind,source=d,target=/d \\
    # within
    cat /m/one /d/e.txt > /two
FROM ${BASE}
ARG A B=b
COPY --from=one /one /1
COPY --chmod=600 ${B}.txt *.txt /files/
COPY --from=two /two /2
RUN echo "$A $B" > /args
WORKDIR /w
USER u
LABEL l="$A"
ENTRYPOINT ["sh", "-c", "true"]
CMD x y
"""
_HEREDOCS = """\
ARG BASE
FROM ${BASE}
RUN cat <<E > /f && cat <<-"G" >> /f
$PWD
# kept
E
\tFROM nothing
\tG
COPY <<robots.txt <<humans.txt d/e.txt /h/
one \\
two
robots.txt
humans.txt
RUN <<EOF
echo script > /s
echo 'a \\' >> /s
EOF
RUN echo $((1<<2)) '<<E' > /shift
"""
_ALL = """\
ARG BASE
FROM ${BASE}
ARG TARGETARCH
COPY . /all/
COPY ["c d.txt", "$TARGETARCH.txt", "/json/"]
ADD --chown=7:7 d lnk/f.txt /d/
RUN ls /all > /listed
"""
_ESCAPE = """\
# escape=`
ARG BASE
FROM ${BASE} AS b
COPY b.txt \\x
RUN echo a `
  b > /f && echo \\ >> /f
FROM b
RUN echo 'q`" <<E' > /g
COPY --from=b /f /copied
"""
_PARENT = """\
ARG BASE
FROM ${BASE}
ARG G=hello
ENV FROM_PARENT=$G
COPY a.txt /parent/
CMD parent
"""
_CHILD = """\
ARG PARENT
FROM ${PARENT} AS unneeded
COPY b.txt /unneeded
FROM ${PARENT}
RUN cat /parent/a.txt > /read; echo $FROM_PARENT > /env
COPY d /child
"""
_COMPILE = """\
ARG BASE
ARG V=1
FROM ${BASE} AS builder
ARG V
COPY run.sh /src/
RUN echo "$V" > /version
FROM scratch AS wheels
COPY --from=builder /version /
FROM ${BASE} AS image
COPY b.txt /runtime
COPY --from=wheels / /wheels/
"""


def subjects(base: str, digests: tuple[str, ...]) -> Mapping[str, Project]:
    """Return the projects by name, built FROM a base whose tag has been several images and is pinned at the first."""

    def pinned(project: Project) -> Project:
        if project.parent is not None:
            return replace(project, parent=pinned(project.parent))
        return replace(project, base=base, digest=digests[0], digests=digests)

    return {name: pinned(project) for name, project in _subjects().items()}


def _subjects() -> Mapping[str, Project]:
    several = Project(_STAGES)
    listed = replace(several, manifest="*.txt\nd/\nrun.sh\nlnk\n.dot\n")
    aside = {**several.files, UNLISTED: File(b"notes\n")}
    return {
        "stages": several,
        "an unneeded stage": with_unused_stage(several),
        "an unlisted file": replace(listed, files=aside),
        "heredocs": Project(_HEREDOCS),
        "everything": Project(_ALL, files=aside, ignored=(UNLISTED,)),
        "escape": Project(_ESCAPE),
        "a parent": Project(_CHILD, parent=Project(_PARENT)),
        "a compile": Project(_COMPILE, args={"V": "2"}, compiles=True),
    }
