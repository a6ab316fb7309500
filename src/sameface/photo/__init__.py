"""A photo or a frame of a video → faces, measured: files, crops, the detector and the networks."""
