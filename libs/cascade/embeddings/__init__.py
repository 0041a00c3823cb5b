"""Pictures and texts of items as vectors, and their reduction to the 64 dimensions the models read.

`item_text` and `pca` are plain Python and NumPy. `text`, `image` and `clip_training` bring in torch and the
encoder libraries, and only when an encoder is made: importing this package costs nothing.
"""
