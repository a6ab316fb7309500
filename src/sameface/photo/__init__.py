"""A photo or a frame of a video → faces, measured: files, crops, the detector and the networks."""

MIN_SCORE = 0.6
"""of a detected face, 0 to 1, from which on it counts unless a caller says otherwise"""
