"""What a street scene is made of: camera, ground, sky, objects, light, weather and sensor."""
