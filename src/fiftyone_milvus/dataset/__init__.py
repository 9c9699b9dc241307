"""What we ask of FiftyOne and its MongoDB: IDs as bytes, limits of a view, images, progress."""
