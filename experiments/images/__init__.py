"""Images: a VAE that learns codes of image files."""
