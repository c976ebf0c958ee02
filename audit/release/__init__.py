"""From a bundle to a signed, tagged release that met its policy."""
