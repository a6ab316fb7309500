"""What every room stands on: arrays, geometry, cameras, errors, plug-ins, worker processes."""
