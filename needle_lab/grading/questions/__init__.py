"""One module per assignment, each with QUESTIONS: the declarations that `check` and `grade` read.

The autograder gives a learner's process a copy of the package without this folder.
"""
