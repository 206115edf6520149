"""What others read: the dataset card, Croissant, and copies in other tools' formats."""
