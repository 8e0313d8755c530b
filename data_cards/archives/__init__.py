"""Archives and tables read in place: zip, tar and parquet, as folders of files that are never unpacked."""
