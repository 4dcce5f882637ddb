"""Where training runs. An executor only trains; the study belongs to the driver."""
