"""Rules for Dockerfiles that parse and build, and still cost: bytes, time at each rebuild, or a secret for everybody to read.

What is where:

    catalogue   all rules, in the order of docs/rules.md
    rule        a rule: id, severity, title, what it costs, the cure, and the function that looks
    subject     what the functions look at: a tier's stages, with each RUN as the commands of its shell
    shell       a RUN's text as commands, read by tree-sitter's grammar of bash
    bases  packages  layers  security    the rules
    look        all rules over one tier
    finding     what was found, as a value that a plan remembers
    weigh       findings against waivers: what fails, what is said, what was waived
"""
