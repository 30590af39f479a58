"""Notice arriving files and announce them by events.

- `watcher`: notice files in folders and buckets.
- `announcements`: a few events for many files, sent again until the server has taken them.
- `addresses`: where the files of each dataset arrive.
"""
