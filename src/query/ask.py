# Purpose: asks Portage what gentoomuch wants to know, one question after the other.
# When:    in a session, before, between and after runs of emerge.
# Inputs:  argv[1], a JSON file: a list of questions {"kind": …, …}, whose other fields are the arguments of who answers.
# Output:  a line "@gentoomuch JSON" for each question, in their order, then "@gentoomuch-done COUNT".

import json
import sys

import audit
import fulfilled
import keys
import names
import versions
import why

ANSWERS = {**audit.ANSWERS, **fulfilled.ANSWERS, **keys.ANSWERS, **names.ANSWERS, **versions.ANSWERS, **why.ANSWERS}

with open(sys.argv[1], encoding="utf-8") as file:
    questions = json.load(file)
for question in questions:
    answer = ANSWERS[question.pop("kind")](**question)
    print("@gentoomuch " + json.dumps(answer), flush=True)
print("@gentoomuch-done", len(questions), flush=True)
