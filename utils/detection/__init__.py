"""Object detection: the concepts, one file each (box coding, anchors, matching, suppression, features of regions,
losses, proposals, evaluation), and the detectors that are made of them.

Boxes are `xyxy` in pixels of the image, float32; labels are int32, and -1 marks padding; scores lie in [0, 1].
"""
