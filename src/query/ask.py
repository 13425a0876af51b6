# Purpose: asks Portage what gentoomuch wants to know, one question after the other.
# When:    in a session, before, between and after runs of emerge.
# Inputs:  argv[1], a JSON file: a list of questions {"kind": …, …}, whose other fields are the arguments of who answers.
# Output:  a line "@gentoomuch JSON" for each question, in their order, then "@gentoomuch-done COUNT".

import codecs
import importlib
import json
import sys

# Who answers which kinds. A file is read only if it is needed: some read half of Python's library.
KINDS = {
    "audit": ["audit"],
    "fulfilled": ["fulfilled"],
    "keys": ["keys"],
    "names": ["atom", "feature", "flag", "global-flag", "keyword", "licence", "set", "target", "value"],
    "toolset": ["toolset"],
    "versions": ["ebuild", "rehearsal", "version"],
    "why": ["why"],
}
FILES = {kind: name for name, kinds in KINDS.items() for kind in kinds}

# Names of files need not be UTF-8, and JSON has no form for what is not.
codecs.register_error("shown", lambda error: ("".join(f"\\\\x{ord(c) - 0xDC00:02x}" for c in error.object[error.start : error.end]), error.end))


def shown(answer):
    return json.loads(json.dumps(answer, ensure_ascii=False).encode("utf-8", "shown"))


with open(sys.argv[1], encoding="utf-8") as file:
    questions = json.load(file)
for question in questions:
    kind = question.pop("kind")
    answer = importlib.import_module(FILES[kind]).ANSWERS[kind](**question)
    print("@gentoomuch " + json.dumps(shown(answer)), flush=True)
print("@gentoomuch-done", len(questions), flush=True)
