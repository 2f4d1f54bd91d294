"""Turns encoded pictures into 48x48 face crops: decoding, face detection, alignment.

The server and the training commands both use this package, so that a net is trained on the pixels that it is
served. It depends on numpy and OpenCV only.
"""
