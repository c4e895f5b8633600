"""What runs inside the sandbox: the keeper of a child, the submission's side and the judge's side.

The only part of `course` that imports Keras. Nothing outside this folder imports it: it is started as a program, in a
box.
"""
