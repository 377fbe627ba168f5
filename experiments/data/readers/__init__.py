"""Files of others, read and written: sound, scores, piano rolls, drawings, handwriting."""
