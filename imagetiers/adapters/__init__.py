"""The doors to the world: each module does one kind of effect behind a protocol of `imagetiers.services`."""
