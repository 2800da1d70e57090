"""What a file says about itself: tags, names and fingerprints. Knows neither SQL nor origins."""
