"""Archives: packed in one order, unpacked so that nothing of them gets out of its folder.

What is here, but for packing, also runs on other machines, on any Python from 3.8 on; see `transport.downloads.there`.
"""
