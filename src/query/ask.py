# Purpose: asks Portage what gentoomuch wants to know, one question after the other.
# When:    in a session, before, between and after runs of emerge.
# Inputs:  argv[1], a JSON file: a list of questions {"kind": …, …}, whose other fields are the arguments of who answers.
# Output:  a line "@gentoomuch JSON" for each question, in their order, then "@gentoomuch-done COUNT".

import codecs
import json
import sys

import audit
import fulfilled
import keys
import names
import versions
import why

ANSWERS = {**audit.ANSWERS, **fulfilled.ANSWERS, **keys.ANSWERS, **names.ANSWERS, **versions.ANSWERS, **why.ANSWERS}

# Names of files need not be UTF-8, and JSON has no form for what is not.
codecs.register_error("shown", lambda error: ("".join(f"\\\\x{ord(c) - 0xDC00:02x}" for c in error.object[error.start : error.end]), error.end))


def shown(answer):
    return json.loads(json.dumps(answer, ensure_ascii=False).encode("utf-8", "shown"))


with open(sys.argv[1], encoding="utf-8") as file:
    questions = json.load(file)
for question in questions:
    answer = ANSWERS[question.pop("kind")](**question)
    print("@gentoomuch " + json.dumps(shown(answer)), flush=True)
print("@gentoomuch-done", len(questions), flush=True)
