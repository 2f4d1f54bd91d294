"""Reading video, drawing on pictures. Needs the extra `video` (OpenCV), which is imported when used."""
