"""Parts of the experiment behind GenSeg's claims."""
