"""Who carries an item to the DHT and back."""
