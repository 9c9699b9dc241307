"""What this package asks of FiftyOne and its MongoDB: IDs, limits of views, images, progress."""
