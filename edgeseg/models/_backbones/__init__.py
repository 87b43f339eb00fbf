"""The networks' trunks, with the state-dict names of the collection that published each."""
