"""The grader: a folder of submissions in, marks and feedback out. `docs/grading.md` has the threat model."""
