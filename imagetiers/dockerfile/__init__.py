"""Dockerfiles read exactly as BuildKit's frontend reads them; what is not is an error with its place, never a guess.

    parser    text to instructions: lines, continuations, comments, directives, flags, heredocs
    words     how instructions split their operands: blanks, quotes, JSON
    expand    variables: `$x`, `${x:-y}` and the other modifiers
    mounts    the options of `RUN --mount=`
    sources   what COPY and ADD name: paths, URLs, git repositories
    model     stages and instructions as values
    reading   under given arguments: what stages are FROM, which of them a build runs, and what they take
    context   which files of the context a path or pattern means
    render    the Dockerfile that is sent to BuildKit: what the key covers, and nothing else

Source: moby/buildkit, frontend/dockerfile of the versions 1.5 to 1.20 (parser, shell, instructions, dockerfile2llb). Where
these differ in what they build, the text is refused: a key must mean the same on every engine.
"""
