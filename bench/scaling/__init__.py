"""The autoscaling policy against traces of load, in virtual time, beside fixed numbers of workers."""
