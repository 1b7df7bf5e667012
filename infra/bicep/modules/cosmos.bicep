// Documents. Entra identities only; containers, partition keys, times to live and indexes as in
// shared/adapters/azure/cosmos_schema.py, which a test compares with this file.

param name string
param location string
param tags object
param databaseName string

@description('True: pay per request, up to 5,000 RU/s a container. False: autoscale, each container on its own.')
param serverless bool

@description('Autoscale ceiling of detections, in RU/s. The floor is a tenth of it.')
param detectionsMaxThroughput int

@description('Autoscale ceiling of each other container, in RU/s; 1000 is the least there is.')
param otherMaxThroughput int

param zoneRedundant bool

@description('True: only private endpoints reach the account.')
param privateNetwork bool

@description('IPv4 addresses or ranges that may reach the account without a private endpoint: operators.')
param allowedAddresses array

param detectionRetentionDays int

@description('True: templates carry a vector index. It can be chosen only when the container is made.')
param vectorSearch bool

@description('Length of the embeddings: 512 for FaceNet, 128 for SFace.')
param vectorDimensions int

var backupTier = serverless ? 'Continuous7Days' : 'Continuous30Days'
var daySeconds = 86400

// Only what queries filter or sort by is indexed: an index entry costs request units with every write.
var containers = [
  {
    name: 'people'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/id'
        ]
      }
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: []
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
  {
    name: 'templates'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/person_id'
        ]
      }
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: [
          {
            path: '/person_id/?'
          }
          {
            path: '/embedder_id/?'
          }
          {
            path: '/sort/?'
          }
        ]
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
  {
    name: 'detections'
    maxThroughput: detectionsMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/id'
        ]
      }
      defaultTtl: detectionRetentionDays * daySeconds
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: [
          {
            path: '/sort/?'
          }
          {
            path: '/person_id/?'
          }
          {
            path: '/site/?'
          }
          {
            path: '/camera/?'
          }
          {
            path: '/location/?'
          }
          {
            path: '/status/?'
          }
        ]
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: [
          [
            {
              path: '/person_id'
              order: 'ascending'
            }
            {
              path: '/sort'
              order: 'ascending'
            }
          ]
        ]
      }
    }
  }
  {
    name: 'models'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/id'
        ]
      }
      defaultTtl: -1
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: []
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
  {
    name: 'audit'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/day'
        ]
      }
      defaultTtl: 400 * daySeconds
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: [
          {
            path: '/sort/?'
          }
        ]
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
  {
    name: 'tokens'
    maxThroughput: otherMaxThroughput
    resource: {
      partitionKey: {
        kind: 'Hash'
        version: 2
        paths: [
          '/id'
        ]
      }
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: []
        excludedPaths: [
          {
            path: '/*'
          }
        ]
        compositeIndexes: []
      }
    }
  }
]

var serverlessCapability = serverless ? [
  {
    name: 'EnableServerless'
  }
] : []
var vectorCapability = vectorSearch ? [
  {
    name: 'EnableNoSQLVectorSearch'
  }
] : []

// Only templates would be searched by likeness. `union` merges the index into the policy above, which leaves the path
// out of the ordinary index. Templates keep their embedding as base64 in `embedding`; `vector`, an array of numbers, is
// for a matcher inside Cosmos DB, which galleries of today's size do not need.
var vectors = vectorSearch ? {
  vectorEmbeddingPolicy: {
    vectorEmbeddings: [
      {
        path: '/vector'
        dataType: 'float32'
        distanceFunction: 'cosine'
        dimensions: vectorDimensions
      }
    ]
  }
  indexingPolicy: {
    vectorIndexes: [
      {
        path: '/vector'
        type: 'quantizedFlat'
      }
    ]
  }
} : {}

resource account 'Microsoft.DocumentDB/databaseAccounts@2025-04-15' = {
  //checkov:skip=CKV_AZURE_101:disabled with privateNetwork, which the check cannot evaluate; without it the app has no fixed address, and keys are off
  //checkov:skip=CKV_AZURE_99:as above; every request needs an Entra identity with a role on this database
  name: name
  location: location
  tags: tags
  kind: 'GlobalDocumentDB'
  properties: {
    databaseAccountOfferType: 'Standard'
    capabilities: concat(serverlessCapability, vectorCapability)
    consistencyPolicy: {
      defaultConsistencyLevel: 'Session'
    }
    locations: [
      {
        locationName: location
        failoverPriority: 0
        isZoneRedundant: zoneRedundant
      }
    ]
    disableLocalAuth: true
    disableKeyBasedMetadataWriteAccess: true
    enableAutomaticFailover: false
    minimalTlsVersion: 'Tls12'
    publicNetworkAccess: privateNetwork && empty(allowedAddresses) ? 'Disabled' : 'Enabled'
    ipRules: [for address in (privateNetwork ? allowedAddresses : []): {
      ipAddressOrRange: address
    }]
    backupPolicy: {
      type: 'Continuous'
      continuousModeProperties: {
        tier: backupTier
      }
    }
  }
}

resource database 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2025-04-15' = {
  parent: account
  name: databaseName
  properties: {
    resource: {
      id: databaseName
    }
  }
}

resource container 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2025-04-15' = [for item in containers: {
  parent: database
  name: item.name
  properties: {
    resource: union({
      id: item.name
    }, item.resource, item.name == 'templates' ? vectors : {})
    options: serverless ? {} : {
      autoscaleSettings: {
        maxThroughput: item.maxThroughput
      }
    }
  }
}]

output id string = account.id
output name string = account.name
output endpoint string = account.properties.documentEndpoint
output databaseName string = database.name
