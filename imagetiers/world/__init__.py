"""The doors to the world: each module does one kind of effect behind a Protocol of `imagetiers.ports`."""
